// Locks that outlive their process in its children, and those that do not.
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockFile, lockForLife } from '../../../src/host/lock.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lock-'));
  path = join(directory, 'lock');
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A process that has the lock, and a child that has its descriptor and ends when the file `end` is there. */
async function holder() {
  const script = `
    import { spawn } from 'node:child_process';
    import { readdirSync, readlinkSync } from 'node:fs';
    import { lockForLife } from ${JSON.stringify(fileURLToPath(new URL('../../../src/host/lock.ts', import.meta.url)))};
    const path = ${JSON.stringify(path)};
    const lock = await lockForLife(path);
    const is = fd => { try { return readlinkSync('/proc/self/fd/' + fd) === path } catch { return false } };
    const fd = Number(readdirSync('/proc/self/fd').find(is));
    const wait = 'while [ ! -e ' + path + '.end ]; do sleep 0.05; done';
    spawn('sh', ['-c', wait], { stdio: ['ignore', 'ignore', 'ignore', fd], detached: true });
    console.log('locked');
    setInterval(() => lock, 1000);`;
  const process = execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { reject: false });
  await once(process.stdout, 'data');
  return { process };
}

it('a lock for life is refused at once while its process lives', async () => {
  const { process } = await holder();
  expect(await lockForLife(path, 3_600_000)).toBeUndefined();
  process.kill('SIGKILL');
  await process;
  await execa('touch', [`${path}.end`]);
  const lock = await lockForLife(path);
  expect(lock).toBeDefined();
  expect(lockFile(path)).toBeUndefined();
  lock?.release();
});

it('a lock for life is had when what its dead process started has let go of it, and not before', async () => {
  const { process } = await holder();
  process.kill('SIGKILL');
  await process;
  expect(await lockForLife(path, 100)).toBeUndefined();
  setTimeout(() => execa('touch', [`${path}.end`]), 200);
  const lock = await lockForLife(path, 60_000);
  expect(lock).toBeDefined();
  expect(existsSync(`${path}.end`)).toBe(true);
  lock?.release();
});
