// Locks by name, so that two requests about one object take turns while others pass.

export interface Locks {
  /** Runs `work` while it alone holds `name`. */
  exclusive<T>(name: string, work: () => Promise<T>): Promise<T>;
  /** Runs `work` beside other shared holders of `name`, but beside no exclusive one. */
  shared<T>(name: string, work: () => Promise<T>): Promise<T>;
}

interface Lock {
  /** Settles when the last exclusive holder asked for so far has ended. */
  exclusive: Promise<unknown>;
  /** The shared holders asked for since then. */
  shared: Promise<unknown>[];
  users: number;
}

/** Turns are taken in the order of asking. */
export function createLocks(): Locks {
  const locks = new Map<string, Lock>();

  async function hold<T>(
    name: string,
    enter: (lock: Lock, mine: Promise<void>) => Promise<unknown>,
    work: () => Promise<T>,
  ): Promise<T> {
    const lock = locks.get(name) ?? { exclusive: Promise.resolve(), shared: [], users: 0 };
    locks.set(name, lock);
    lock.users++;
    let leave = () => {};
    const mine = new Promise<void>(resolve => {
      leave = resolve;
    });
    try {
      await enter(lock, mine);
      return await work();
    } finally {
      leave();
      if (--lock.users === 0) locks.delete(name);
    }
  }

  return {
    exclusive: (name, work) =>
      hold(
        name,
        (lock, mine) => {
          const before = Promise.all([lock.exclusive, ...lock.shared]);
          lock.exclusive = before.then(() => mine);
          lock.shared = [];
          return before;
        },
        work,
      ),
    shared: (name, work) =>
      hold(
        name,
        (lock, mine) => {
          lock.shared.push(mine);
          return lock.exclusive;
        },
        work,
      ),
  };
}
