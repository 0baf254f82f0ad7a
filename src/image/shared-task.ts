// One run of a task for everyone who asks for it at the same time: the same image pulled by ten pods, the
// same layer wanted by two images. Who goes away leaves the others undisturbed; the last one out ends it.
import { CriError } from '../errors.ts';

export interface SharedTasks<T> {
  /**
   * Joins the run under `key`, or starts one. `task` gets a signal that is aborted when everyone has gone.
   * @throws what the task throws; CriError cancelled when the caller's own `signal` is aborted first. The last one to go
   * away learns it when the task has ended, and with that whatever it had begun.
   */
  run(key: string, signal: AbortSignal | undefined, task: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

interface Shared<T> {
  promise: Promise<T>;
  controller: AbortController;
  waiting: number;
}

export function createSharedTasks<T>(): SharedTasks<T> {
  const running = new Map<string, Shared<T>>();

  function start(key: string, task: (signal: AbortSignal) => Promise<T>): Shared<T> {
    const controller = new AbortController();
    const shared: Shared<T> = { promise: task(controller.signal), controller, waiting: 0 };
    running.set(key, shared);
    const forget = () => {
      if (running.get(key) === shared) running.delete(key);
    };
    shared.promise.then(forget, forget);
    return shared;
  }

  return {
    async run(key, signal, task) {
      if (signal?.aborted) throw cancelled();
      const shared = running.get(key) ?? start(key, task);
      shared.waiting++;
      try {
        return await unlessAborted(shared.promise, signal);
      } finally {
        shared.waiting--;
        if (shared.waiting === 0 && running.get(key) === shared) {
          // A newcomer must not join what is being ended.
          running.delete(key);
          shared.controller.abort(cancelled());
          await shared.promise.catch(() => {}); // what it still does is over before anyone cleans up behind it
        }
      }
    },
  };
}

/** What `work` comes to. @throws CriError cancelled as soon as `signal` is aborted, while `work` goes on */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  let onAbort = () => {};
  const gone = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled());
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
  });
  try {
    return await Promise.race([work, gone]);
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function cancelled(): CriError {
  return new CriError('cancelled', 'the request was cancelled');
}

export interface Semaphore {
  /** Runs `task` when there is room. @throws what it throws; CriError cancelled when `signal` is aborted before that */
  hold<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T>;
}

/** At most `limit` holders at a time; others wait in order. */
export function createSemaphore(limit: number): Semaphore {
  const queue = new Set<() => void>();
  let held = 0;

  async function turn(signal: AbortSignal): Promise<void> {
    if (held < limit) {
      held++;
      return;
    }
    let take = () => {};
    const taken = new Promise<void>(resolve => {
      take = resolve;
      queue.add(take);
    });
    try {
      await unlessAborted(taken, signal);
    } catch (error) {
      // When it was given the turn at the same moment, that goes to the next.
      if (!queue.delete(take)) leave();
      throw error;
    }
  }

  function leave(): void {
    const [next] = queue;
    if (next === undefined) held--;
    else {
      queue.delete(next);
      next();
    }
  }

  return {
    async hold(signal, task) {
      await turn(signal);
      try {
        return await task();
      } finally {
        leave();
      }
    },
  };
}
