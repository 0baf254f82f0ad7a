// Who may run beside whom (spec section 3, "Lifecycle & Ordering"): operations on one container one after the
// other, on different containers side by side, GC alone.

export interface Exclusion {
  /** Runs `operation` when no other of this container is under way and no GC is. */
  forContainer<T>(containerId: string, operation: () => Promise<T>): Promise<T>;
  /** Runs `operation` when nothing else is under way; what comes meanwhile waits. */
  alone<T>(operation: () => Promise<T>): Promise<T>;
}

export function createExclusion(): Exclusion {
  const lastOf = new Map<string, Promise<unknown>>();
  let lastAlone: Promise<unknown> = Promise.resolve();

  /** Settles, well, when `operation` has settled. */
  const settled = (operation: Promise<unknown>): Promise<unknown> => operation.catch(() => {});

  return {
    forContainer(containerId, operation) {
      const before = lastOf.get(containerId);
      const result = Promise.all([before, lastAlone]).then(operation);
      const done = settled(result).then(() => {
        if (lastOf.get(containerId) === done) lastOf.delete(containerId);
      });
      lastOf.set(containerId, done);
      return result;
    },

    alone(operation) {
      const result = Promise.all([lastAlone, ...lastOf.values()]).then(operation);
      lastAlone = settled(result);
      return result;
    },
  };
}
