// The fault matrix: tests of lifecycle operations, one for each step and each fault. The steps are taken from the engine
// itself: the operation is run once, and the daemon's log has a span for each step that was done or undone. Then it is run
// again for each step and each fault. Each test holds what the caller was told and the state that is there then; and that
// after the clean-up calls that kubelet would make the node is as it was.
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import type { RpcError } from './cri-client.ts';
import { afterOnePod, everything, untilAsBefore } from './everything.ts';
import { type NodeOptions, standingStill, startNode, type TestNode, until } from './node.ts';
import { absent, insisting, type Operation, type StatesByPlace } from './operations.ts';
import { plannedSteps } from './plans.ts';

/** A step that was done or undone, as the daemon's log tells of it. */
export interface Span {
  operation: string;
  step: string;
  verb: 'do' | 'undo';
  ms: number;
}

export interface FaultMatrix {
  readonly node: TestNode;
  readonly counts: {
    /** Combinations of operation, step and fault that were struck, and judged. */
    ran: number;
    /** Steps that were over each time before they could be struck within. */
    missed: number;
    /** Combinations that were tried again, for the machine was slower than what was to be seen. */
    repeated: number;
  };
  /** Every step that was met: `OPERATION/STEP/VERB`. */
  readonly met: ReadonlySet<string>;
  /** Defines the tests of some operations. Call at the top of a test file. `between` is called before the node is looked at. */
  cover(operations: readonly Operation[], between?: () => void): Promise<void>;
  destroy(): Promise<void>;
}

/** Deadlines are short here, for each injected hang lasts so long. */
const stepMs = 2000;
/** How long a step pauses whose caller goes away meanwhile. */
const pauseMs = 500;
/** A step that takes less than this is not to be struck within. */
const leastMsWithin = 2;
/** How often a combination is tried that the machine was too slow, or too fast, for. */
const tries = 3;

const bringsUp = (operation: Operation) => operation.halfUndone !== undefined;
const faultOf = ({ operation, step, verb }: Span, rest: string) => `${operation}/${step}/${verb}/${rest}`;

/** What the caller was told. */
interface Outcome {
  code: number;
  details: string;
}

/** One way to disturb an operation. */
interface Case {
  operation: Operation;
  title: string;
  /** Faults that strike during the call; the later tries strike earlier within. */
  faults(attempt: number): string[];
  /** Faults that strike while the daemon, killed by the first ones, is started again. */
  inRecovery?: string[];
  /** The caller goes away as soon as the fault has struck. */
  cancels?: boolean;
  /** Asserts what the caller must be told. */
  expectTold(outcome: Outcome): void;
  /** How the RPC must end in the daemon when its caller has gone: `CANCELLED` or `OK`. */
  endsAs?: string;
  /** States that are possible then. */
  states: readonly string[];
}

const toldNothing = ({ code }: Outcome) => expect(code).not.toBe(grpc.OK);
const toldAnything = () => {};
const toldSuccess = (outcome: Outcome) => expect(outcome).toEqual(success);
const toldCancelled = ({ code }: Outcome) => expect(grpc[code]).toBe('CANCELLED');
const toldFailure =
  ({ step }: Span) =>
  (outcome: Outcome) => {
    expect(outcome.code).not.toBe(grpc.OK);
    expect(outcome.details).toContain(`injected failure of step "${step}"`);
  };
const toldLate =
  ({ step, verb }: Span, ms: number) =>
  ({ code, details }: Outcome) => {
    expect(details).toContain(`step "${step}" (${verb}) did not finish within ${ms} ms`);
    expect(grpc[code]).toBe('DEADLINE_EXCEEDED');
  };
const success: Outcome = { code: grpc.OK, details: '' };

/** The machine, and not the fault, decided what happened: it is to be tried again. */
class NotAsArranged extends Error {}
/** As that: the step was over before it could be struck. */
class Missed extends NotAsArranged {}

/** Starts the node whose operations are to be disturbed; `prepare` may give it images, before it is looked at. */
export async function startFaultMatrix(
  options: NodeOptions = {},
  prepare: (node: TestNode) => Promise<void> = async () => {},
): Promise<FaultMatrix> {
  const faultDirectory = mkdtempSync(join(tmpdir(), 'ct-faults-'));
  const faultFile = join(faultDirectory, 'faults');
  const arm = (...faults: string[]) => writeFileSync(faultFile, faults.join('\n'));
  const lines = () => readFileSync(faultFile, 'utf8').split('\n').filter(Boolean);
  const armed = () => lines().filter(line => !line.startsWith('missed '));
  const wasMissed = () => lines().some(line => line.startsWith('missed '));

  const { config } = options;
  const limits = `[plugins."io.cri-ts"]\nstep_timeout = "${stepMs}ms"\nundo_timeout = "${stepMs}ms"\n`;
  const node = await startNode({
    ...options,
    config: paths => `${limits}${(typeof config === 'function' ? config(paths) : config) ?? ''}`,
    env: { CRI_TS_FAULTS: faultFile },
  });
  await prepare(node);
  const counts = { ran: 0, missed: 0, repeated: 0 };
  const met = new Set<string>();

  // What the first pod leaves for good (the bridge, empty directories) is there from now on. The descriptors are to be those
  // of a daemon that has just started and does nothing.
  arm();
  await afterOnePod(node);
  await node.kill();
  await node.start();
  let before = await standingStill(() => everything(node));

  const logFile = join(node.directory, 'daemon.log');
  const logSize = () => reading(logFile, fd => fstatSync(fd).size);
  const logSince = (offset: number): Record<string, unknown>[] => {
    const text = reading(logFile, fd => {
      const bytes = Buffer.alloc(Math.max(0, fstatSync(fd).size - offset));
      return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, offset)).toString();
    });
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    return whole
      .split('\n')
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line));
  };

  /** Runs the operation under the faults; returns the steps that the engine took meanwhile, each once. */
  async function spansOf(operation: Operation, ...faults: string[]): Promise<Span[]> {
    const id = await insisting(operation.prepare);
    await standingStill(logSize); // a container's end goes on behind the call that ended it
    const offset = logSize();
    arm(...faults);
    const outcome = await outcomeOf(operation.call(id, new AbortController().signal));
    await standingStill(logSize);
    if (faults.length === 0) {
      expect(outcome).toEqual(success);
      expect(await operation.state(id)).toBe(operation.done);
    }
    const spans = logSince(offset).flatMap(({ msg, ...span }) =>
      msg === 'step' || msg === 'step failed' ? [span as unknown as Span] : [],
    );
    await operation.afterwards?.(id);
    return [...new Map(spans.map(span => [faultOf(span, ''), span])).values()];
  }

  async function casesOf(operation: Operation, between: () => void): Promise<Case[]> {
    const spans = await insisting(async () => {
      try {
        return await spansOf(operation);
      } finally {
        between();
        await untilAsBefore(node, before);
      }
    });
    for (const { operation: name, step, verb } of spans) met.add(`${name}/${step}/${verb}`);
    const cases = spans
      .filter(({ step }) => operation.steps?.includes(step) ?? true)
      .flatMap(span => singleFaults(operation, spans, span));
    const last = spans.filter(({ verb }) => verb === 'do').at(-1);
    // What brings something up is undone when it fails, and at the next start when the daemon is killed: faults in that.
    if (!last || !bringsUp(operation) || operation.steps) return cases;
    const undone = (await spansOf(operation, faultOf(last, 'after/fail'))).filter(
      ({ verb }) => verb === 'undo',
    );
    between();
    await untilAsBefore(node, before);
    for (const { operation: name, step, verb } of undone) met.add(`${name}/${step}/${verb}`);
    return [...cases, ...undone.flatMap(span => secondFaults(operation, last, span))];
  }

  async function disturb(disturbance: Case, attempt: number): Promise<void> {
    const { operation, inRecovery = [], cancels, expectTold, endsAs, states } = disturbance;
    const faults = disturbance.faults(attempt);
    const kills = faults.some(fault => fault.endsWith('kill'));
    const id = await insisting(operation.prepare);
    const offset = logSize();
    try {
      const abort = new AbortController();
      arm(...faults);
      const call = outcomeOf(operation.call(id, abort.signal));
      await until('every fault has struck', () => armed().length === 0 || undefined);
      if (wasMissed()) {
        await call;
        throw new Missed('the step was over before it could be struck');
      }
      if (cancels) abort.abort();
      const outcome = await call;
      if (kills) await restart(inRecovery);
      if (cancels && outcome.code === grpc.OK)
        throw new NotAsArranged('the operation was over before its caller had gone');
      expectTold(outcome);
      if (endsAs !== undefined) {
        const ending = await until(`the daemon has ended ${operation.name}`, () =>
          logSince(offset).find(({ rpc }) => rpc === operation.name),
        );
        expect(ending).toMatchObject({ code: endsAs });
      }
      await expectState(operation, id, states);
    } catch (error) {
      if (otherStepWasLate(offset, faults))
        throw new NotAsArranged('a step met its short deadline that was not disturbed', { cause: error });
      throw error;
    } finally {
      await operation.afterwards?.(id);
    }
  }

  async function expectState(operation: Operation, id: string, states: readonly string[]): Promise<void> {
    let found = '';
    const asked = until('the state is one of those that are possible', async () => {
      found = await operation.state(id);
      return states.includes(found) || undefined;
    });
    await asked.catch(() => expect(states).toContain(found));
  }

  function otherStepWasLate(offset: number, faults: readonly string[]): boolean {
    return logSince(offset).some(
      ({ msg, error, ...span }) =>
        msg === 'step failed' &&
        /did not finish within/.test(String(error)) &&
        !faults.some(fault => fault.startsWith(faultOf(span as unknown as Span, ''))),
    );
  }

  async function restart(faults: readonly string[]): Promise<void> {
    await node.ended();
    arm(...faults);
    await node.start().catch(error => {
      if (!faults.some(fault => fault.endsWith('kill'))) throw error;
      return node.start();
    });
    expect(armed()).toEqual([]);
  }

  return {
    node,
    counts,
    met,
    async cover(operations, between = () => {}) {
      for (const operation of operations) {
        const cases = await casesOf(operation, between);
        describe(`${operation.name}${operation.variant === undefined ? '' : ` of ${operation.variant}`}`, () => {
          for (const disturbance of cases) {
            it(`${disturbance.title}: nothing is left`, async context => {
              for (let attempt = 1; ; attempt++) {
                try {
                  await disturb(disturbance, attempt);
                  between();
                  await untilAsBefore(node, before);
                  counts.ran++;
                  return;
                } catch (error) {
                  if (!(error instanceof NotAsArranged)) {
                    between();
                    await untilAsBefore(node, before).catch(() => {
                      before = everything(node); // so that one leak is told once
                    });
                    throw error;
                  }
                  between();
                  await untilAsBefore(node, before);
                  if (attempt < tries) {
                    counts.repeated++;
                    continue;
                  }
                  if (!(error instanceof Missed)) throw error;
                  counts.missed++;
                  context.skip('the step was always over before it could be struck within');
                }
              }
            });
          }
        });
      }
    },
    async destroy() {
      await node.destroy();
      rmSync(faultDirectory, { recursive: true });
    },
  };
}

function singleFaults(operation: Operation, spans: readonly Span[], span: Span): Case[] {
  const { step, verb, ms } = span;
  const first = spans[0];
  const last = spans.filter(({ operation: name }) => name === operation.name).at(-1);
  // What goes on behind the call that began it has no caller.
  const isBehind = span.operation === 'ContainerEnd';
  const isHeard = verb === 'do' && span.operation === operation.name;
  const what = `${verb === 'do' ? '' : 'the undo of '}"${step}" (${span.operation})`;
  const at = ({ beforeFirstStep, between, afterLastStep }: StatesByPlace, when: string) => {
    if (when === 'before' && span === first) return beforeFirstStep;
    return when === 'after' && span === last ? afterLastStep : between;
  };
  const one = (
    words: string,
    when: string,
    fault: string,
    rest: Omit<Case, 'operation' | 'title' | 'faults'>,
  ) => ({
    operation,
    title: `${words} ${what}`,
    faults: () => [faultOf(span, `${when}/${fault}`)],
    ...rest,
  });
  const killed = (when: string) => ({
    expectTold: isBehind ? toldAnything : toldNothing,
    states: at(operation.killed, when),
  });
  const failed = (when: string) => ({
    expectTold: isBehind ? toldSuccess : toldFailure(span),
    states: isBehind ? [operation.done] : at(operation.failed, when),
  });
  const kills: Case[] = [
    one('daemon killed before', 'before', 'kill', killed('before')),
    ...(ms > leastMsWithin
      ? [
          {
            ...one('daemon killed within', 'within', 'kill', killed('within')),
            faults: (attempt: number) => [faultOf(span, `within:${Math.round(ms / 2 ** attempt)}/kill`)],
          },
        ]
      : []),
    one('daemon killed after', 'after', 'kill', killed('after')),
    one('failure before', 'before', 'fail', failed('before')),
    one('failure after', 'after', 'fail', failed('after')),
  ];
  if (operation.steps) return kills;

  const deadlineMs = deadlineOf(operation, span);
  const late: Case[] =
    deadlineMs === undefined // then its caller alone can end it, which is a case of its own
      ? []
      : [
          one(`hang after its work, past the deadline of ${deadlineMs} ms, in`, 'after', 'hang', {
            expectTold: isBehind ? toldSuccess : toldLate(span, deadlineMs),
            states: isBehind ? [operation.done] : at(operation.failed, 'after'),
          }),
        ];
  if (isBehind) return [...kills, ...late];
  const gone = ['before', 'after'].map((when): Case => {
    if (isHeard) {
      return one(`caller gone in a hang ${when}`, when, 'hang', {
        cancels: true,
        expectTold: toldCancelled,
        endsAs: 'CANCELLED',
        states: at(operation.failed, when),
      });
    }
    // What takes away goes on to its end, whoever waits for it.
    return one(`caller gone in a pause ${when}`, when, `pause:${pauseMs}`, {
      cancels: true,
      expectTold: toldCancelled,
      endsAs: 'OK',
      states: [operation.done],
    });
  });
  return [...kills, ...late, ...gone];
}

function secondFaults(operation: Operation, last: Span, undo: Span): Case[] {
  const failed = (words: string, rest: string) => ({
    operation,
    title: `failed, and then ${words} the undo of "${undo.step}"`,
    faults: () => [faultOf(last, 'after/fail'), faultOf(undo, rest)],
  });
  return [
    {
      ...failed('the daemon killed before', 'before/kill'),
      expectTold: toldNothing,
      // What was put on record in undoing may be all that the next daemon knows: it is there to be taken down.
      states: [...operation.killed.between, ...(operation.halfUndone ?? [])],
    },
    {
      ...failed('a failure before', 'before/fail'),
      expectTold: toldFailure(last), // what fails in undoing does not hide why there was something to undo
      states: operation.halfUndone ?? [absent],
    },
    {
      operation,
      title: `daemon killed, and killed again at the next start before the undo of "${undo.step}"`,
      faults: () => [faultOf(last, 'before/kill')], // after it, there may be nothing to undo any more
      inRecovery: [faultOf(undo, 'before/kill')],
      expectTold: toldNothing,
      states: operation.killed.between,
    },
  ];
}

/** Milliseconds that the step may take; undefined for one that is never ended for its length. */
function deadlineOf({ graceMs }: Operation, { operation, step, verb }: Span): number | undefined {
  if (verb === 'undo') return stepMs;
  const planned = plannedSteps(graceMs)[operation]?.find(({ name }) => name === step);
  const own = planned?.deadlineMs ?? stepMs;
  return own < 60_000 ? own : undefined;
}

async function outcomeOf(call: Promise<unknown>): Promise<Outcome> {
  try {
    await call;
    return success;
  } catch (error) {
    const { code, details } = error as RpcError;
    return { code, details };
  }
}

function reading<T>(path: string, read: (fd: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return read(fd);
  } finally {
    closeSync(fd);
  }
}
