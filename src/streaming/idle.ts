// Ends a connection on which nothing moves.

export interface IdleTimer {
  /** Something moved. */
  touch(): void;
  stop(): void;
}

/** Calls `onIdle` once when `touch` was not called for `ms`; undefined = never. */
export function startIdleTimer(ms: number | undefined, onIdle: () => void): IdleTimer {
  if (ms === undefined) return { touch() {}, stop() {} };
  const timer = setTimeout(onIdle, ms);
  timer.unref();
  return { touch: () => void timer.refresh(), stop: () => clearTimeout(timer) };
}
