import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, expect, it } from 'vitest';
import { identify, type ProcessIdentity, startProcessWatch } from '../../../src/host/process-watch.ts';
import { startReadiness } from '../../../src/host/readiness.ts';

const readiness = startReadiness();
const watch = startProcessWatch(readiness);
afterAll(() => {
  watch.close();
  readiness.close();
});

const identityOf = (pid: number | undefined): ProcessIdentity => {
  const process = identify(pid ?? 0);
  if (!process) throw new Error(`no process ${pid}`);
  return process;
};

it('leaves the exit status of a child to Node, which would wait for its number for ever', async () => {
  const child = spawn('sleep', ['1000']);
  const seen = new Promise<void>(resolve => {
    watch.watchChild(identityOf(child.pid), resolve);
  });
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await seen;
  expect(await exit).toEqual([null, 'SIGTERM']);
});

it('tells at once of a process that has ended before', async () => {
  const child = spawn('true');
  const ended = { pid: child.pid ?? 0, startTime: '1' };
  await once(child, 'exit');
  await new Promise<void>(resolve => {
    watch.watchChild(ended, resolve);
  });
});

it('tells nothing of a process any more that is not watched any more', async () => {
  const child = spawn('sleep', ['1000']);
  let told = false;
  const stop = watch.watchChild(identityOf(child.pid), () => {
    told = true;
  });
  expect(watch.isWatched(child.pid ?? 0)).toBe(true);
  stop();
  expect(watch.isWatched(child.pid ?? 0)).toBe(false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(told).toBe(false);
});
