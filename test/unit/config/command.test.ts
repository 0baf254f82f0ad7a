// `cri-ts config` as a command: what goes where, and the exit code.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { configCommand } from '../../../src/cli/config.ts';

let dir: string;
let stdout: string;
let stderr: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cri-ts-config-'));
  stdout = '';
  stderr = '';
  vi.spyOn(process.stdout, 'write').mockImplementation(chunk => {
    stdout += String(chunk);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation(chunk => {
    stderr += String(chunk);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  rmSync(dir, { recursive: true });
});

const run = (...args: string[]) => configCommand().parseAsync(args, { from: 'user' });

function write(text: string): string {
  const file = join(dir, 'config.toml');
  writeFileSync(file, text);
  return file;
}

it('check shows each error and exits with 1', async () => {
  await run('check', write('version = 3\nroot = "x"\nstate = "y"'));
  expect(stderr.trim().split('\n')).toHaveLength(2);
  expect(stderr).toContain('error: ');
  expect(process.exitCode).toBe(1);
});

it('check shows warnings and exits with 0', async () => {
  await run('check', write('version = 3\nflavour = 1'));
  expect(stdout).toMatch(/warning: .*flavour: unknown key, ignored\n.*config\.toml: ok\n/);
  expect(process.exitCode).toBeUndefined();
});

it('default prints TOML with comments', async () => {
  await run('default');
  expect(stdout).toContain('# The CRI socket.\n  address = "/run/cri-ts/cri-ts.sock"');
});

it('dump prints file and flags together, as TOML', async () => {
  const file = write('version = 2\nroot = "/from/file"\nflavour = 1');
  await run('dump', '--config', file, '--cni-bin-dir', '/one', '--cni-bin-dir', '/two');
  expect(stdout).toContain('root = "/from/file"');
  expect(stdout).toContain('bin_dirs = [ "/one", "/two" ]');
  expect(stderr).toContain('flavour: unknown key');
});

it('dump --json prints what the program sees', async () => {
  await run('dump', '--json', '--config', write('version = 2\n[grpc]\naddress = "/a.sock"'));
  const config: unknown = JSON.parse(stdout);
  expect(config).toMatchObject({
    server: { socketPath: '/a.sock' },
    runtimes: { handlers: { runc: { binary: 'runc' } } },
  });
});
