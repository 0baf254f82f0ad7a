// Runs plans of steps. Everything that makes lifecycle operations safe hangs here once:
//   - the intent of a whole plan is durable before its first act, so that a killed daemon knows what to undo;
//   - a failure or a caller that goes away undoes what was begun, in reverse, on the engine's own deadline;
//   - what cannot be undone now stays owed, and the next attempt takes it up again;
//   - each do and undo is observed: logs, metrics, traces and fault injection are observers.
import { CriError, codeOf, isDiskFull, messageOf } from '../errors.ts';
import { isTogether, type Plan, type Step, type Subject, stepsOf } from './step.ts';

/** One do or undo of one step, as observers see it. */
export interface StepEvent {
  /** The lifecycle operation, named as the RPC: `RunPodSandbox`. */
  operation: string;
  subject: string;
  step: string;
  verb: 'do' | 'undo';
}

export interface StepOutcome extends StepEvent {
  began: number;
  ms: number;
  error?: unknown;
}

export interface StepObserver {
  /** Before the step acts, within its deadline; a rejection makes the step fail (how faults are injected). */
  before?(event: StepEvent, signal: AbortSignal): Promise<void> | void;
  after?(outcome: StepOutcome): Promise<void> | void;
  /** Runs what the step does, so that it can be told apart as the step's doing (how traces nest). */
  around?(event: StepEvent, work: () => Promise<void>): Promise<void>;
}

export interface EngineOptions {
  observers?: readonly StepObserver[];
  /** Milliseconds for a `do` that names none. */
  deadlineMs?: number;
  /** Milliseconds for an `undo` that names none. */
  undoDeadlineMs?: number;
  /** How long a step may go on, in milliseconds, after its signal aborted, before the engine goes on without it. */
  settleMs?: number;
}

export interface Engine {
  /**
   * Does every step of the plan. On failure undoes all of it, then throws the failure; what could not be undone
   * is in `subject.owed` and saved.
   */
  bringUp<S extends Subject>(
    operation: string,
    plan: Plan<S>,
    subject: S,
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Undoes every owed step of the plan from last to first. A failing undo leaves itself and what lies under it
   * owed; branches that run together do not hold each other up. @throws the first failure
   */
  takeDown<S extends Subject>(operation: string, plan: Plan<S>, subject: S): Promise<void>;
  /** Does steps that own nothing (a stop signal, a wait), with the same observers. */
  perform<S extends { readonly id: string }>(
    operation: string,
    plan: Plan<S>,
    subject: S,
    signal: AbortSignal,
  ): Promise<void>;
}

export function createEngine({
  observers = [],
  deadlineMs = 120_000,
  undoDeadlineMs = 60_000,
  settleMs = 10_000,
}: EngineOptions = {}): Engine {
  /** `work` inside of every observer that wants to be around it. */
  const surrounded = (event: StepEvent, work: () => Promise<void>): (() => Promise<void>) =>
    observers.reduce<() => Promise<void>>(
      (inner, observer) => (observer.around ? () => observer.around?.(event, inner) ?? inner() : inner),
      work,
    );

  /** Runs one verb of one step under its deadline, observed. */
  async function act(
    event: StepEvent,
    deadline: number,
    outer: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<void> | void,
  ): Promise<StepOutcome> {
    const began = Date.now();
    const start = performance.now();
    const timeout = new AbortController(); // and not AbortSignal.timeout, whose timer cannot be taken back
    const timer = setTimeout(() => timeout.abort(new Error('its deadline passed')), deadline);
    const signal = outer ? AbortSignal.any([outer, timeout.signal]) : timeout.signal;
    const observedWork = async () => {
      for (const observer of observers) await observer.before?.(event, signal);
      if (signal.aborted) throw signal.reason;
      await work(signal);
    };
    let error: unknown;
    try {
      await untilSettled(surrounded(event, observedWork)(), signal, settleMs);
    } catch (thrown) {
      const late = timeout.signal.aborted && !(outer?.aborted ?? false);
      error = late ? overdue(event, deadline, thrown) : inWords(event, thrown);
    } finally {
      clearTimeout(timer);
    }
    const outcome: StepOutcome = {
      ...event,
      began,
      ms: performance.now() - start,
      ...(error === undefined ? {} : { error }),
    };
    for (const observer of observers) await observer.after?.(outcome);
    if (error !== undefined) throw error;
    return outcome;
  }

  async function doAll<S extends { readonly id: string; times?: Subject['times'] }>(
    operation: string,
    plan: Plan<S>,
    subject: S,
    signal: AbortSignal,
    begun: Set<string>,
    beforeFirstAct: () => Promise<void>,
  ): Promise<void> {
    for (const part of plan) {
      if (signal.aborted) throw signal.reason;
      if (isTogether(part)) {
        await beforeFirstAct();
        await allOrFirstFailure(part.together, signal, (branch, branchSignal) =>
          doAll(operation, branch, subject, branchSignal, begun, beforeFirstAct),
        );
        continue;
      }
      if (!part.inMemory) await beforeFirstAct();
      const event = { operation, subject: subject.id, step: part.name, verb: 'do' } as const;
      begun.add(part.name);
      const own = typeof part.deadlineMs === 'function' ? part.deadlineMs(subject) : part.deadlineMs;
      const { began, ms } = await act(event, own ?? deadlineMs, signal, inner => part.do(subject, inner));
      if (subject.times) subject.times[part.name] = { began, ms };
    }
  }

  async function undoAll<S extends Subject>(operation: string, plan: Plan<S>, subject: S): Promise<void> {
    for (const part of [...plan].reverse()) {
      if (isTogether(part)) {
        const results = await Promise.allSettled(
          part.together.map(branch => undoAll(operation, branch, subject)),
        );
        const failed = results.find(result => result.status === 'rejected');
        if (failed) throw failed.reason;
      } else if (subject.owed.includes(part.name)) {
        await undoOne(operation, part, subject);
        subject.owed = subject.owed.filter(name => name !== part.name);
      }
    }
  }

  async function undoOne<S extends Subject>(operation: string, step: Step<S>, subject: S): Promise<void> {
    if (!step.undo) return;
    const undo = step.undo.bind(step);
    const event = { operation, subject: subject.id, step: step.name, verb: 'undo' } as const;
    await act(event, step.undoDeadlineMs ?? undoDeadlineMs, undefined, signal => undo(subject, signal));
  }

  return {
    async bringUp(operation, plan, subject, signal) {
      const begun = new Set(subject.owed);
      let intent: Promise<void> | undefined;
      const recordIntent = () => {
        subject.owed = [...new Set([...subject.owed, ...stepsOf(plan).map(step => step.name)])];
        intent ??= subject.save();
        return intent;
      };
      try {
        await doAll(operation, plan, subject, signal, begun, recordIntent);
        await subject.save();
      } catch (error) {
        subject.owed = [...begun]; // here we know how far it came; a killed daemon's successor must undo it all
        // What fails now is observed and owed, and must not hide why the operation failed.
        await undoAll(operation, plan, subject).catch(() => {});
        if (intent) await subject.save().catch(() => {}); // the record on disk then owes more than is left, never less
        throw signal.aborted ? cancelled(operation, subject.id, signal, outcomeOfUndo(plan, subject)) : error;
      }
    },
    async takeDown(operation, plan, subject) {
      try {
        await undoAll(operation, plan, subject);
      } catch (error) {
        await subject.save().catch(() => {}); // as above
        throw error;
      }
      await subject.save();
    },
    async perform(operation, plan, subject, signal) {
      try {
        await doAll(operation, plan, subject, signal, new Set(), async () => {});
      } catch (error) {
        throw signal.aborted ? cancelled(operation, subject.id, signal, 'it can be repeated') : error;
      }
    },
  };
}

/** Waits for `work`; once `signal` aborts, for `settleMs` more, so that undo does not run beside it. */
async function untilSettled(work: Promise<void>, signal: AbortSignal, settleMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  const overstayed = new Promise<never>((_, reject) => {
    onAbort = () => {
      timer = setTimeout(() => reject(signal.reason), settleMs);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  try {
    await Promise.race([work, overstayed]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** Runs branches together; the first failure aborts the others, and all have ended when this settles. */
async function allOrFirstFailure<T>(
  branches: readonly T[],
  signal: AbortSignal,
  work: (branch: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  const both = AbortSignal.any([signal, abort.signal]);
  const failures: unknown[] = [];
  await Promise.all(
    branches.map(branch =>
      work(branch, both).catch(error => {
        failures.push(error);
        abort.abort(error);
      }),
    ),
  );
  if (failures.length > 0) throw failures[0];
}

function overdue({ operation, subject, step, verb }: StepEvent, deadline: number, thrown: unknown): CriError {
  const message = `${operation} of ${subject}: step "${step}" (${verb}) did not finish within ${deadline} ms: ${messageOf(thrown)}`;
  return new CriError('deadlineExceeded', message, { cause: thrown });
}

/** What the kernel said, such as `ENOSPC: no space left on device`, names no pod: say which step of what it ended. */
function inWords({ operation, subject, step, verb }: StepEvent, thrown: unknown): unknown {
  const full = isDiskFull(thrown);
  if (thrown instanceof CriError || (codeOf(thrown) === undefined && !full)) return thrown;
  const advice = full ? ': make room on that file system and try again' : '';
  const message = `${operation} of ${subject}: step "${step}" (${verb}) failed: ${messageOf(thrown)}${advice}`;
  return new CriError(full ? 'resourceExhausted' : 'internal', message, { cause: thrown });
}

function cancelled(operation: string, subject: string, { reason }: AbortSignal, outcome: string): CriError {
  const message = `${operation} of ${subject} was given up because the caller went away; ${outcome}`;
  return new CriError('cancelled', message, { cause: reason });
}

function outcomeOfUndo<S extends Subject>(plan: Plan<S>, { owed }: S): string {
  const left = stepsOf(plan).filter(({ name, undo }) => undo && owed.includes(name));
  if (left.length === 0) return 'what had begun was undone';
  return `what could not be undone is still owed: ${left.map(({ name }) => name).join(', ')}`;
}
