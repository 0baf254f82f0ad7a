import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, expect, it } from 'vitest';
import {
  identify,
  identifyEnded,
  type ProcessIdentity,
  startProcessWatch,
} from '../../../src/host/process-watch.ts';
import { startReadiness } from '../../../src/host/readiness.ts';
import { spawnChild } from '../../../src/host/spawn.ts';
import { endOf } from '../../../src/host/wait.ts';

const readiness = startReadiness();
const watch = startProcessWatch(readiness);
afterAll(() => {
  watch.close();
  readiness.close();
});

const identityOf = (pid: number | undefined): ProcessIdentity => {
  const found = identify(pid ?? 0);
  if (!found) throw new Error(`no process ${pid}`);
  return found;
};

const sleeper = () => spawnChild({ file: 'sleep', args: ['1000'], env: {}, stdio: [] });

it('tells how a child ended, and leaves no zombie', async () => {
  const pid = await sleeper();
  const seen = new Promise<number | undefined>(resolve => {
    watch.watch(identityOf(pid), resolve);
  });
  process.kill(pid, 'SIGTERM');
  expect(await seen).toBe(128 + 15);
  expect(identifyEnded(pid)).toBeUndefined();
});

it('tells at once of a process that has ended before', async () => {
  const child = spawn('true');
  const ended = { pid: child.pid ?? 0, startTime: '1' };
  await once(child, 'exit');
  await new Promise<void>(resolve => {
    watch.watch(ended, () => resolve());
  });
});

it('tells nothing of a process any more that is not watched any more', async () => {
  const pid = await sleeper();
  let told = false;
  const stop = watch.watch(identityOf(pid), () => {
    told = true;
  });
  expect(watch.isWatched(pid)).toBe(true);
  stop();
  expect(watch.isWatched(pid)).toBe(false);
  process.kill(pid, 'SIGKILL');
  expect(await endOf(pid)).toMatchObject({ signal: 'SIGKILL' });
  expect(told).toBe(false);
});
