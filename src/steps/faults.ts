// Fault injection for tests: makes a chosen step fail, hang, pause, or kill the daemon. Inert unless the environment asks.
//
// CRI_TS_FAULTS names a file with a fault on each line, read anew at each step:
//
//     OPERATION/STEP/VERB/WHEN/WHAT       RunPodSandbox/network (CNI ADD)/do/before/kill
//
// VERB  do | undo
// WHEN  before | after (its work was done, and still in its time) | within:MS (so many milliseconds after it began; only kill)
// WHAT  kill | fail | hang (until its deadline passes or its caller goes away) | pause:MS (whoever goes away, then it goes on)
//
// A fault strikes once: its line is taken out of the file just before, so that whoever wrote it sees that it struck. A step
// that ended before it could be struck within leaves the line with `missed ` before it.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CriError, codeOf } from '../errors.ts';
import type { StepEvent, StepObserver } from './engine.ts';

/** The observer that injects what the environment asks for; undefined when it asks for nothing. */
export function faultObserver(
  environment: Readonly<Record<string, string | undefined>>,
): StepObserver | undefined {
  const file = environment.CRI_TS_FAULTS;
  if (file === undefined) return undefined;
  const underWay = new WeakMap<StepEvent, { signal: AbortSignal; miss(): void }>();
  return {
    async before(event, signal) {
      const timers = faultsOf(file, event, 'within').map(({ line, ms, what }) => {
        const strike = () => {
          change(file, line, []);
          void act(what, event, signal);
        };
        return { line, timer: setTimeout(strike, ms) };
      });
      const miss = () => {
        for (const { line, timer } of timers) {
          clearTimeout(timer);
          change(file, line, [`missed ${line}`]);
        }
      };
      underWay.set(event, { signal, miss });
      for (const { line, what } of faultsOf(file, event, 'before')) {
        change(file, line, []);
        await act(what, event, signal);
      }
    },
    async around(event, work) {
      try {
        await work();
      } finally {
        underWay.get(event)?.miss();
      }
      const signal = underWay.get(event)?.signal ?? AbortSignal.abort();
      for (const { line, what } of faultsOf(file, event, 'after')) {
        change(file, line, []);
        await act(what, event, signal);
      }
    },
  };
}

interface Fault {
  line: string;
  /** Of `within`: milliseconds. */
  ms: number;
  what: string;
}

/** The faults in the file for that step at that moment. */
function faultsOf(
  file: string,
  { operation, step, verb }: StepEvent,
  moment: 'before' | 'within' | 'after',
): Fault[] {
  return linesOf(file).flatMap(line => {
    const [wantedOperation, wantedStep, wantedVerb, when, what] = line.split('/');
    if (!when || !what)
      throw new CriError('invalidArgument', `CRI_TS_FAULTS: ${JSON.stringify(line)} is no fault`);
    const [wantedMoment, ms] = when.split(':');
    const isIt = wantedOperation === operation && wantedStep === step && wantedVerb === verb;
    return isIt && wantedMoment === moment ? [{ line, ms: Number(ms), what }] : [];
  });
}

/** Puts other lines in the place of one, at once: whoever reads the file must not take a half written one for an empty one. */
function change(file: string, line: string, others: readonly string[]): void {
  const lines = linesOf(file).flatMap(each => (each === line ? others : [each]));
  writeFileSync(`${file}.new`, lines.join('\n'));
  renameSync(`${file}.new`, file);
}

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

async function act(what: string, { step }: StepEvent, signal: AbortSignal): Promise<void> {
  if (what === 'kill') process.kill(process.pid, 'SIGKILL');
  if (what === 'fail') throw new Error(`injected failure of step "${step}"`);
  if (what === 'hang') await aborted(signal);
  if (what.startsWith('pause:')) await sleep(Number(what.slice('pause:'.length)));
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}
