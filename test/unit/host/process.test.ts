import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../../src/host/process.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cri-ts-process-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const sh = (script: string, options: Parameters<typeof run>[2] = {}) =>
  run('/bin/sh', ['-c', script], options);

describe('run', () => {
  it('gives output, error output and exit code of a child that ends', async () => {
    const result = await sh('cat; echo oops >&2; exit 3', { input: 'hello' });
    expect(result).toMatchObject({ exitCode: 3, signal: undefined, failure: undefined });
    expect(result.stdout).toBe('hello');
    expect(result.stderr).toBe('oops\n');
    expect(result.outcome).toBe('/bin/sh exited with code 3');
  });

  it('hands over the given environment and nothing of its own', async () => {
    const result = await run('/usr/bin/env', [], { env: { ONLY: 'this' } });
    expect(result.stdout).toBe('ONLY=this\n');
  });

  it('tells why a child did not start', async () => {
    const notExecutable = join(dir, 'plain');
    await writeFile(notExecutable, '');
    expect(await run(join(dir, 'absent'), [])).toMatchObject({
      failure: 'not-started',
      startError: 'ENOENT',
    });
    expect(await run(notExecutable, [])).toMatchObject({ failure: 'not-started', startError: 'EACCES' });
    expect(await run('/bin/true', [], { env: { A: 'nul\0byte' } })).toMatchObject({ failure: 'not-started' });
  });

  it('kills a child that outlives its time, and the children that hold its output open', async () => {
    const result = await sh('sleep 300 & echo $!; wait', { timeoutMs: 3000 });
    expect(result).toMatchObject({ failure: 'timed-out', signal: 'SIGKILL', exitCode: undefined });
    const stat = await run('/bin/cat', [`/proc/${result.stdout.trim()}/stat`]);
    expect(stat.stdout === '' || / Z /.test(stat.stdout)).toBe(true);
  });

  it('kills a child when the request is cancelled, and does not start one afterwards', async () => {
    const controller = new AbortController();
    const running = sh('sleep 300', { signal: controller.signal });
    controller.abort();
    expect(await running).toMatchObject({ failure: 'cancelled', signal: 'SIGKILL' });
    expect(await sh('echo ran', { signal: controller.signal })).toMatchObject({
      failure: 'cancelled',
      stdout: '',
    });
  });

  it('kills a child that writes without end and keeps the first part', async () => {
    const result = await sh('yes', { maxOutputBytes: 1000 });
    expect(result.failure).toBe('too-much-output');
    expect(result.stdout).toBe('y\n'.repeat(500));
  });

  it('keeps the tail of a long error output without killing the child', async () => {
    const result = await sh('seq 1 200000 >&2; exit 4', { maxErrorBytes: 14 });
    expect(result).toMatchObject({ exitCode: 4, stderr: '199999\n200000\n' });
  });

  it('reads what has come while the event loop was held up, before it gives the output up', async () => {
    const running = sh('(sleep 0.6; echo late) & exit 0');
    await sleep(300);
    const until = performance.now() + 2000;
    while (performance.now() < until);
    expect((await running).stdout).toBe('late\n');
  });

  it('returns though a process left behind keeps the output open', async () => {
    const result = await sh('setsid sleep 300 & echo $!');
    expect(result).toMatchObject({ exitCode: 0, failure: undefined });
    process.kill(Number(result.stdout), 'SIGKILL');
  });

  it('reports the signal that ended a child, and survives one that ignores its input', async () => {
    expect(await sh('kill -TERM $$')).toMatchObject({ signal: 'SIGTERM', failure: undefined });
    expect(await sh('exec true', { input: 'x'.repeat(1_000_000) })).toMatchObject({ exitCode: 0 });
  });
});
