// The host thread while the kernel holds it up: a fifo that nobody writes to is as a file system that does not answer.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { HostThread } from '../../src/host/host-thread.ts';

// The thread is a file of the compiled program, and the program's libraries cannot be loaded twice.
const load = (name: string) => import(fileURLToPath(new URL(`../../dist/host/${name}.js`, import.meta.url)));
const { openHostThread } = (await load('host-thread')) as typeof import('../../src/host/host-thread.ts');
const { deleteNetns, isNetnsBound } = (await load('netns')) as typeof import('../../src/host/netns.ts');

const never = new AbortController().signal;
const gone = new Error('the caller went away');

let directory: string;
let fifo: string;
let thread: HostThread;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cri-ts-thread-'));
  fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  thread = openHostThread();
  await thread.bringLoopbackUp('/proc/self/ns/net', never); // it has started then
});
afterEach(async () => {
  await thread.close();
  rmSync(directory, { recursive: true });
});

/** Holds the thread up; the returned function lets it go on, and resolves when it has. */
async function holdUp(signal = never): Promise<() => Promise<void>> {
  const held = thread.bringLoopbackUp(fifo, signal).catch(() => {});
  await sleep(200);
  return () => {
    writeFileSync(fifo, '');
    return held;
  };
}

it('makes no network namespace, and mounts nothing, for a caller who went away before their turn', async () => {
  const letGo = await holdUp();
  const [path, target] = [join(directory, 'netns'), join(directory, 'no-directory')];
  const caller = new AbortController();
  const calls = [
    thread.createNetns(path, { loopbackUp: false, signal: caller.signal }),
    thread.mountOverlay({ lowerDirs: [directory, directory], target }, caller.signal),
  ];
  caller.abort(gone);
  // Both end while the thread is still held up, and nothing has to be waited for before undoing.
  expect(await Promise.allSettled(calls)).toEqual(calls.map(() => ({ status: 'rejected', reason: gone })));
  await thread.settled(path);
  await thread.settled(target);
  await letGo();
  await thread.createNetns(join(directory, 'next'), { loopbackUp: false }); // in turn after those
  deleteNetns(join(directory, 'next'));
  expect(existsSync(path)).toBe(false);
});

it('has whoever undoes wait for what had begun when the caller went away', async () => {
  const caller = new AbortController();
  const letGo = await holdUp(caller.signal);
  caller.abort(gone);
  let settled = false;
  const undoing = thread.settled(fifo).then(() => {
    settled = true;
  });
  await sleep(100);
  expect(settled).toBe(false);
  await letGo();
  await undoing;
});

it('makes a network namespace for a caller who waits', async () => {
  const letGo = await holdUp();
  const path = join(directory, 'netns');
  const made = thread.createNetns(path, { loopbackUp: true, signal: never });
  await letGo();
  await made;
  expect(isNetnsBound(path)).toBe(true);
  deleteNetns(path);
});
