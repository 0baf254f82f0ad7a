import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { CriError } from '../../../src/errors.ts';
import { createEngine, type StepObserver } from '../../../src/steps/engine.ts';
import type { Plan, Step, Subject } from '../../../src/steps/step.ts';

/** A subject that writes down, in order, what is done to it: steps, undos, and what each save says is owed. */
interface Recorded extends Subject {
  history: string[];
}

function subject({ owed = [] as string[], saveFails = (): boolean => false } = {}): Recorded {
  const recorded: Recorded = {
    id: 's',
    owed,
    times: {},
    history: [],
    async save() {
      if (saveFails()) throw new Error('no room for the record');
      recorded.history.push(`save owing [${recorded.owed.join(' ')}]`);
    },
  };
  return recorded;
}

function step(name: string, over: Partial<Step<Recorded>> = {}): Step<Recorded> {
  return {
    name,
    do: ({ history }) => void history.push(name),
    undo: ({ history }) => void history.push(`undo ${name}`),
    ...over,
  };
}

const failing = (name: string): Step<Recorded> =>
  step(name, {
    do({ history }) {
      history.push(name);
      throw new Error(`${name} failed`);
    },
  });

const failingUndo = (name: string): Step<Recorded> =>
  step(name, {
    undo() {
      throw new Error(`undo of ${name} failed`);
    },
  });

const never = new AbortController().signal;
const bringUp = (plan: Plan<Recorded>, target: Recorded, options = {}, signal = never) =>
  createEngine(options).bringUp('Run', plan, target, signal);
const takeDown = (plan: Plan<Recorded>, target: Recorded, options = {}) =>
  createEngine(options).takeDown('Stop', plan, target);

async function failure(work: Promise<unknown>): Promise<Error> {
  const outcome = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof Error) return outcome;
  throw new Error('it was expected to fail');
}

describe('bringing up', () => {
  it('does the steps in order, and has saved the intent of all of them before the first', async () => {
    const target = subject();
    await bringUp([step('a'), step('b')], target);
    expect(target.history).toEqual(['save owing [a b]', 'a', 'b', 'save owing [a b]']);
  });

  it('saves no intent before steps that are in memory alone', async () => {
    const target = subject();
    await bringUp([step('name', { inMemory: true }), step('a')], target);
    expect(target.history).toEqual(['name', 'save owing [name a]', 'a', 'save owing [name a]']);
  });

  it('undoes what was begun, in reverse, when a step fails, and throws that failure', async () => {
    const target = subject();
    const error = await failure(bringUp([step('a'), step('b'), failing('c'), step('d')], target));
    expect(error.message).toBe('c failed');
    expect(target.history.slice(1)).toEqual([
      ...['a', 'b', 'c', 'undo c', 'undo b', 'undo a'],
      'save owing []',
    ]);
  });

  it('leaves nothing on record when it fails before anything durable', async () => {
    const target = subject();
    await failure(bringUp([{ ...failing('name'), inMemory: true }, step('a')], target));
    expect(target.history).toEqual(['name', 'undo name']);
  });

  it('does nothing when the intent cannot be saved', async () => {
    const target = subject({ saveFails: () => true });
    const plan = [step('name', { inMemory: true }), step('a')];
    expect((await failure(bringUp(plan, target))).message).toBe('no room for the record');
    expect(target.history).toEqual(['name', 'undo name']);
    expect(target.owed).toEqual([]);
  });

  it('undoes everything when the end cannot be saved', async () => {
    let saves = 0;
    const target = subject({ saveFails: () => saves++ === 1 });
    expect((await failure(bringUp([step('a')], target))).message).toBe('no room for the record');
    expect(target.history).toEqual(['save owing [a]', 'a', 'undo a', 'save owing []']);
  });

  it('keeps owing what it could not undo and what lies under it, and says why it failed in the first place', async () => {
    const target = subject();
    const plan = [step('a'), failingUndo('b'), step('c'), failing('d')];
    expect((await failure(bringUp(plan, target))).message).toBe('d failed');
    expect(target.owed).toEqual(['a', 'b']);
    expect(target.history.at(-1)).toBe('save owing [a b]');
  });

  it('keeps what an earlier operation owes', async () => {
    const target = subject({ owed: ['foundation'] });
    await failure(bringUp([failing('a')], target));
    expect(target.owed).toEqual(['foundation']);
  });

  it('notes when each step began and how long it took', async () => {
    const target = subject();
    await bringUp([step('a', { do: () => sleep(20) })], target);
    expect(target.times.a?.ms).toBeGreaterThanOrEqual(15);
    expect(target.times.a?.began).toBeGreaterThan(0);
  });

  it('says which step of what met an error of the system', async () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    const plan = [
      step('files', {
        do() {
          throw full;
        },
      }),
    ];
    const error = await failure(bringUp(plan, subject()));
    expect(error).toMatchObject({ kind: 'resourceExhausted' });
    expect(error.message).toMatch(/Run of s: step "files" \(do\) failed: ENOSPC.*make room/);
  });
});

describe('a full disk', () => {
  it('is told as such also when it is the cause of an error with words of its own', async () => {
    const cause = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    const plan = [
      step('network', {
        do() {
          throw new Error('the record cannot be written: no space left on device', { cause });
        },
      }),
    ];
    const error = await failure(bringUp(plan, subject()));
    expect(error).toMatchObject({ kind: 'resourceExhausted' });
    expect(error.message).toContain('the record cannot be written');
  });
});

describe('steps side by side', () => {
  it('run at the same time', async () => {
    const target = subject();
    let arrivals = 0;
    let both = () => {};
    const met = new Promise<void>(resolve => {
      both = resolve;
    });
    const meeting = (name: string) =>
      step(name, {
        async do() {
          if (++arrivals === 2) both();
          await met;
        },
      });
    await bringUp([{ together: [[meeting('left')], [meeting('right')]] }], target);
    expect(arrivals).toBe(2);
  });

  it('each branch keeps its own order', async () => {
    const target = subject();
    const slow = step('left 1', {
      async do({ history }) {
        await sleep(10);
        history.push('left 1');
      },
    });
    await bringUp([{ together: [[slow, step('left 2')], [step('right')]] }], target);
    expect(target.history.slice(1, -1)).toEqual(['right', 'left 1', 'left 2']);
  });

  it('when one fails the other is told to end, and is waited for before anything is undone', async () => {
    const target = subject();
    const waiting = step('left', {
      do({ history }, signal) {
        return new Promise<void>((_, reject) => {
          signal.addEventListener('abort', () => {
            setTimeout(() => {
              history.push('left ended');
              reject(signal.reason);
            }, 20);
          });
        });
      },
    });
    const plan = [step('a'), { together: [[waiting], [failing('right'), step('right 2')]] }, step('z')];
    expect((await failure(bringUp(plan, target))).message).toBe('right failed');
    expect(target.history.slice(1, 4)).toEqual(['a', 'right', 'left ended']);
    expect(target.history.slice(4, 6).sort()).toEqual(['undo left', 'undo right']);
    expect(target.history.slice(6)).toEqual(['undo a', 'save owing []']);
  });

  it('a branch that cannot be undone does not keep the other from being undone, but what lies under both', async () => {
    const target = subject({ owed: ['a', 'left', 'right 1', 'right 2'] });
    const plan = [step('a'), { together: [[failingUndo('left')], [step('right 1'), step('right 2')]] }];
    expect((await failure(takeDown(plan, target))).message).toBe('undo of left failed');
    expect(target.history).toEqual(['undo right 2', 'undo right 1', 'save owing [a left]']);
  });
});

describe('taking down', () => {
  it('undoes only what is owed, from last to first, and saves the rest', async () => {
    const target = subject({ owed: ['a', 'c', 'other'] });
    await takeDown([step('a'), step('b'), step('c')], target);
    expect(target.history).toEqual(['undo c', 'undo a', 'save owing [other]']);
  });

  it('takes up at the next attempt what failed before', async () => {
    const target = subject({ owed: ['a', 'b', 'c'] });
    let attempts = 0;
    const stubborn = step('b', {
      undo({ history }) {
        if (attempts++ === 0) throw new Error('busy');
        history.push('undo b');
      },
    });
    const plan = [step('a'), stubborn, step('c')];
    expect((await failure(takeDown(plan, target))).message).toBe('busy');
    expect(target.owed).toEqual(['a', 'b']);
    await takeDown(plan, target);
    expect(target.history).toEqual(['undo c', 'save owing [a b]', 'undo b', 'undo a', 'save owing []']);
  });

  it('names what failed, also when the record cannot be saved on top of it', async () => {
    const target = subject({ owed: ['a'], saveFails: () => true });
    expect((await failure(takeDown([failingUndo('a')], target))).message).toBe('undo of a failed');
  });

  it('reports a record that cannot be saved after all was undone', async () => {
    const target = subject({ owed: ['a'], saveFails: () => true });
    expect((await failure(takeDown([step('a')], target))).message).toBe('no room for the record');
  });
});

describe('deadlines', () => {
  const hanging = (name: string, onAbort = () => {}) =>
    step(name, {
      do: (_, signal) =>
        new Promise<void>((_, reject) => {
          signal.addEventListener('abort', () => {
            onAbort();
            reject(signal.reason);
          });
        }),
    });

  it('end a step that hangs, and undo it', async () => {
    const target = subject();
    const error = await failure(bringUp([step('a'), hanging('b')], target, { deadlineMs: 20 }));
    expect(error).toMatchObject({ kind: 'deadlineExceeded' });
    expect(error.message).toContain('Run of s: step "b" (do) did not finish within 20 ms');
    expect(target.history.slice(-3)).toEqual(['undo b', 'undo a', 'save owing []']);
  });

  it("a step's own deadline goes before the engine's", async () => {
    const plan = [{ ...hanging('b'), deadlineMs: 10 }];
    const error = await failure(bringUp(plan, subject(), { deadlineMs: 60_000 }));
    expect(error.message).toContain('within 10 ms');
  });

  it('may be what the subject asks for', async () => {
    const plan = [{ ...hanging('b'), deadlineMs: ({ id }: Recorded) => id.length * 15 }];
    expect((await failure(bringUp(plan, subject()))).message).toContain('within 15 ms');
  });

  it('end a step that does not even listen, after a time to settle', async () => {
    const target = subject();
    const deaf = step('deaf', { do: () => new Promise<void>(() => {}) });
    const error = await failure(bringUp([deaf], target, { deadlineMs: 10, settleMs: 10 }));
    expect(error).toMatchObject({ kind: 'deadlineExceeded' });
    expect(target.history.slice(-2)).toEqual(['undo deaf', 'save owing []']);
  });

  it('hold for an undo too, which then stays owed', async () => {
    const target = subject({ owed: ['a', 'b'] });
    const plan = [step('a'), step('b', { undo: () => new Promise<void>(() => {}) })];
    const error = await failure(takeDown(plan, target, { undoDeadlineMs: 10, settleMs: 10 }));
    expect(error.message).toContain('Stop of s: step "b" (undo) did not finish within 10 ms');
    expect(target.owed).toEqual(['a', 'b']);
  });

  it('hold for what observers do before a step, such as an injected hang', async () => {
    const observer: StepObserver = { before: () => new Promise<void>(() => {}) };
    const options = { observers: [observer], deadlineMs: 10, undoDeadlineMs: 10, settleMs: 10 };
    expect(await failure(bringUp([step('a')], subject(), options))).toMatchObject({
      kind: 'deadlineExceeded',
    });
  });
});

describe('a caller that goes away', () => {
  it('ends what is under way and has it undone; undoing has a signal of its own', async () => {
    const target = subject();
    const abort = new AbortController();
    const undoSignals: boolean[] = [];
    const leaving = step('b', {
      do: (_, signal) =>
        new Promise<void>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
          abort.abort(new Error('gone'));
        }),
      undo(_, signal) {
        undoSignals.push(signal.aborted);
      },
    });
    const error = await failure(bringUp([step('a'), leaving, step('c')], target, {}, abort.signal));
    expect(error).toMatchObject({ kind: 'cancelled' });
    expect(error.message).toContain('what had begun was undone');
    expect(undoSignals).toEqual([false]);
    expect(target.history).not.toContain('c');
    expect(target.history.slice(-2)).toEqual(['undo a', 'save owing []']);
  });

  it('before the first step: nothing is done', async () => {
    const target = subject();
    await failure(bringUp([step('a')], target, {}, AbortSignal.abort()));
    expect(target.history).toEqual([]);
  });

  it('is told what could not be undone', async () => {
    const abort = new AbortController();
    const plan = [failingUndo('a'), step('b', { do: () => abort.abort() }), step('c')];
    const error = await failure(bringUp(plan, subject(), {}, abort.signal));
    expect(error.message).toContain('still owed: a');
  });
});

describe('performing', () => {
  it('does steps in order and undoes nothing', async () => {
    const target = subject();
    const error = await failure(
      createEngine().perform('StopContainer', [step('a'), failing('b'), step('c')], target, never),
    );
    expect(error.message).toBe('b failed');
    expect(target.history).toEqual(['a', 'b']);
  });

  it('says that it was the caller who went away', async () => {
    const work = createEngine().perform('StopContainer', [step('a')], subject(), AbortSignal.abort());
    expect(await failure(work)).toBeInstanceOf(CriError);
    expect(await failure(work)).toMatchObject({ kind: 'cancelled' });
  });
});

describe('observers', () => {
  it('see each do and undo, with its outcome', async () => {
    const seen: string[] = [];
    const observer: StepObserver = {
      before: ({ operation, subject, step, verb }) =>
        void seen.push(`${operation} ${subject} ${step} ${verb}`),
      after: ({ step, verb, error }) => void seen.push(`${step} ${verb}: ${error ? 'failed' : 'well'}`),
    };
    await failure(bringUp([step('a'), failing('b')], subject(), { observers: [observer] }));
    expect(seen).toEqual([
      ...['Run s a do', 'a do: well', 'Run s b do', 'b do: failed'],
      ...['Run s b undo', 'b undo: well', 'Run s a undo', 'a undo: well'],
    ]);
  });

  it('that reject after a step make it fail', async () => {
    const target = subject();
    const observer: StepObserver = {
      after({ verb }) {
        if (verb === 'do') throw new Error('struck');
      },
    };
    await failure(bringUp([step('a')], target, { observers: [observer] }));
    expect(target.history.slice(-2)).toEqual(['undo a', 'save owing []']);
  });
});
