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
      let onAbort: (() => void) | undefined;
      const gone = new Promise<never>((_, reject) => {
        onAbort = () => reject(cancelled());
        signal?.addEventListener('abort', onAbort, { once: true });
      });
      try {
        return await Promise.race([shared.promise, gone]);
      } finally {
        if (onAbort) signal?.removeEventListener('abort', onAbort);
        shared.waiting--;
        if (shared.waiting === 0 && running.get(key) === shared) {
          // A newcomer must not join what is being ended.
          running.delete(key);
          shared.controller.abort(cancelled());
          await shared.promise.catch(() => {}); // who waits has an answer of their own
        }
      }
    },
  };
}

function cancelled(): CriError {
  return new CriError('cancelled', 'the request was cancelled');
}

/** At most `limit` holders at a time; others wait in order. */
export function createSemaphore(limit: number): { hold<T>(task: () => Promise<T>): Promise<T> } {
  const queue: (() => void)[] = [];
  let held = 0;
  return {
    async hold(task) {
      if (held >= limit) await new Promise<void>(resolve => queue.push(resolve));
      else held++;
      try {
        return await task();
      } finally {
        const next = queue.shift();
        if (next) next();
        else held--;
      }
    },
  };
}
