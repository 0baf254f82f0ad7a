// What a lifecycle operation is made of: named, reversible steps in an order, some side by side.

/** One kernel or disk object brought about (`do`) and taken away (`undo`). */
export interface Step<S> {
  readonly name: string;
  /** Must end soon after `signal` aborts. */
  do(subject: S, signal: AbortSignal): Promise<void> | void;
  /**
   * Takes away what `do` made, whether it was done, half done or never begun: it runs after crashes.
   * A step without `undo` owns nothing.
   */
  undo?(subject: S, signal: AbortSignal): Promise<void> | void;
  /** Leaves no trace outside this process's memory, so no durable intent is needed before it. */
  readonly inMemory?: boolean;
  /** Milliseconds for `do`, or what tells them of a subject that says itself how long to wait. Default: the engine's. */
  readonly deadlineMs?: number | ((subject: S) => number);
  /** Milliseconds for `undo`. Default: the engine's. */
  readonly undoDeadlineMs?: number;
}

/** Branches that run at the same time, each a plan of its own. */
export interface Together<S> {
  readonly together: readonly Plan<S>[];
}

/** Steps in order. Undone from the last to the first. */
export type Plan<S> = readonly (Step<S> | Together<S>)[];

/** When a step began, as milliseconds since the epoch, and how long it took in milliseconds. */
export interface StepTime {
  began: number;
  ms: number;
}

/** What the engine works on: something with a durable record that says what it still owns. */
export interface Subject {
  readonly id: string;
  /** Names of the steps whose `undo` is owed: what this subject may own on the host. */
  owed: string[];
  /** How long each step took when it was last done. */
  times: Record<string, StepTime>;
  /** Writes the record durably. Does nothing once the record was removed. */
  save(): Promise<void>;
}

export function isTogether<S>(part: Step<S> | Together<S>): part is Together<S> {
  return 'together' in part;
}

/** Every step of a plan, in the order of the text. */
export function stepsOf<S>(plan: Plan<S>): Step<S>[] {
  return plan.flatMap(part => (isTogether(part) ? part.together.flatMap(branch => stepsOf(branch)) : [part]));
}
