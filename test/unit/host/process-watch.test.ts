import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { killTree } from '../../../src/host/process-tree.ts';
import {
  identify,
  identifyEnded,
  isAlive,
  type ProcessIdentity,
  signalProcess,
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
  const ended = { pid: child.pid ?? 0, startTime: '1', bootId: '' };
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

it('takes a process of another boot for ended, though one of this boot has its pid and start time', async () => {
  const pid = await sleeper();
  const now = identityOf(pid);
  const then = { ...now, bootId: '00000000-0000-4000-8000-000000000000' };
  expect(isAlive(then)).toBe(false);
  expect(signalProcess(then, 9)).toBe(false);
  await new Promise<void>(resolve => {
    watch.watch(then, () => resolve());
  });
  // A record of an earlier release does not say of which boot it is.
  expect(isAlive({ ...now, bootId: '' })).toBe(true);
  expect(signalProcess(now, 9)).toBe(true);
  await endOf(pid);
});

describe('while no descriptors are left', () => {
  /** Runs `work` with all descriptors taken. */
  function withoutDescriptors<T>(work: () => T): T {
    const highest = Math.max(...readdirSync('/proc/self/fd').map(Number));
    const limit = (soft: string) => execFileSync('prlimit', ['--pid', `${process.pid}`, `--nofile=${soft}:`]);
    const soft = execFileSync('prlimit', [
      '--pid',
      `${process.pid}`,
      '--nofile',
      '--raw',
      '-o',
      'SOFT',
      '--noheadings',
    ]);
    const taken: number[] = [];
    limit(`${highest + 20}`);
    try {
      for (;;) taken.push(openSync('/dev/null', 'r'));
    } catch {
      return work();
    } finally {
      for (const fd of taken) closeSync(fd);
      limit(`${soft}`.trim());
    }
  }

  it('nobody is taken for ended', async () => {
    const pid = await sleeper();
    const identity = identityOf(pid);
    withoutDescriptors(() => {
      expect(() => isAlive(identity)).toThrow(/whether process \d+ lives: open failed with EMFILE/);
      expect(() => signalProcess(identity, 9)).toThrow(/pidfd_open failed with EMFILE/);
    });
    expect(isAlive(identity)).toBe(true);
    expect(signalProcess(identity, 9)).toBe(true);
    await endOf(pid);
  });

  it.each(['before there are some again', 'later'])(
    'the end of a process is awaited, which comes %s',
    async when => {
      const pid = await sleeper();
      const identity = identityOf(pid);
      const told: unknown[] = [];
      const seen = withoutDescriptors(() => {
        const seen = new Promise<void>(resolve => {
          watch.watch(identity, status => resolve(void told.push(status)));
        });
        if (when !== 'later') process.kill(pid, 'SIGTERM');
        return seen;
      });
      await Promise.resolve();
      expect(told).toEqual([]);
      expect(watch.isWatched(pid)).toBe(true);
      if (when === 'later') {
        await new Promise(resolve => setTimeout(resolve, 1500));
        expect(told).toEqual([]);
        process.kill(pid, 'SIGTERM');
      }
      await seen;
      expect(told).toEqual([128 + 15]);
    },
  );

  it('one that is to be killed is killed when there are some', async () => {
    const pid = await sleeper();
    const identity = identityOf(pid);
    withoutDescriptors(() => killTree(identity));
    expect(await endOf(pid)).toMatchObject({ signal: 'SIGKILL' });
  });
});
