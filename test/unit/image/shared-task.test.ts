import { describe, expect, it } from 'vitest';
import { createSemaphore, createSharedTasks } from '../../../src/image/shared-task.ts';

/** A task that ends when told, and knows whether it was asked to. */
function task() {
  let end = () => {};
  const ended = new Promise<void>(resolve => {
    end = resolve;
  });
  const asked = { toEnd: false };
  const run = async (signal: AbortSignal) => {
    signal.addEventListener('abort', () => {
      asked.toEnd = true;
    });
    await ended;
    return 'done';
  };
  return { run, end, asked };
}

const turnOfTheLoop = () => new Promise(resolve => setImmediate(resolve));
const isPending = async (promise: Promise<unknown>) =>
  (await Promise.race([promise.catch(() => 'settled'), turnOfTheLoop().then(() => 'pending')])) === 'pending';

describe('a shared task', () => {
  it('goes on for those who stay when one leaves, who need not wait', async () => {
    const tasks = createSharedTasks<string>();
    const { run, end, asked } = task();
    const leaving = new AbortController();
    const [left, stayed] = [tasks.run('a', leaving.signal, run), tasks.run('a', undefined, run)];
    leaving.abort();
    await expect(left).rejects.toMatchObject({ kind: 'cancelled' });
    expect(asked.toEnd).toBe(false);
    end();
    expect(await stayed).toBe('done');
  });

  it('is ended by the last to leave, who waits for its end, while a newcomer gets another', async () => {
    const tasks = createSharedTasks<string>();
    const [first, second] = [task(), task()];
    const leaving = new AbortController();
    const left = tasks.run('a', leaving.signal, first.run);
    leaving.abort();
    expect(await isPending(left)).toBe(true);
    expect(first.asked.toEnd).toBe(true);
    const came = tasks.run('a', undefined, second.run);
    second.end();
    expect(await came).toBe('done');
    first.end();
    await expect(left).rejects.toMatchObject({ kind: 'cancelled' });
  });
});

describe('a semaphore', () => {
  const never = new AbortController().signal;

  it('lets in as many as it says, the others in order, and not those who have left meanwhile', async () => {
    const semaphore = createSemaphore(1);
    const first = task();
    const entered: string[] = [];
    const enter = (name: string, signal: AbortSignal) =>
      semaphore.hold(signal, async () => {
        entered.push(name);
      });
    const holder = semaphore.hold(never, () => first.run(never));
    const leaving = new AbortController();
    const waiting = [enter('second', never), enter('gone', leaving.signal), enter('third', never)];
    leaving.abort();
    await expect(waiting[1]).rejects.toMatchObject({ kind: 'cancelled' });
    expect(entered).toEqual([]);
    first.end();
    await Promise.all([holder, waiting[0], waiting[2]]);
    expect(entered).toEqual(['second', 'third']);
    await enter('later', never);
    expect(entered).toHaveLength(3);
  });
});
