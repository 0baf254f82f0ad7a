// Fault injection for tests: makes a chosen step fail, hang, or kill the daemon. Inert unless the environment asks.
//
// CRI_TS_FAULTS names a file with a fault on each line, read anew at each step:
//
//     OPERATION/STEP/VERB/WHEN/WHAT       RunPodSandbox/network (CNI ADD)/do/before/kill
//
// VERB  do | undo      WHEN  before | after (its success) | within:MS (so many milliseconds after it began; only kill)
// WHAT  kill | fail | hang (only before: until its deadline passes or its caller goes away)
//
// A fault strikes once: its line is taken out of the file just before, so that whoever wrote it sees that it struck.
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CriError, codeOf } from '../errors.ts';
import type { StepEvent, StepObserver } from './engine.ts';

/** The observer that injects what the environment asks for; undefined when it asks for nothing. */
export function faultObserver(
  environment: Readonly<Record<string, string | undefined>>,
): StepObserver | undefined {
  const file = environment.CRI_TS_FAULTS;
  if (file === undefined) return undefined;
  return {
    before(event, signal) {
      for (const [moment, what] of take(file, event, moment => moment !== 'after')) {
        if (moment === 'before') return act(what, event, signal);
        void sleep(Number(moment.slice('within:'.length))).then(() => act(what, event, signal));
      }
      return undefined;
    },
    after({ error, ...event }) {
      if (error !== undefined) return undefined;
      const [struck] = take(file, event, moment => moment === 'after');
      return struck && act(struck[1], event, AbortSignal.abort());
    },
  };
}

/** Takes the faults of that step at that moment out of the file; gives their WHEN and WHAT. */
function take(
  file: string,
  { operation, step, verb }: StepEvent,
  isMoment: (moment: string) => boolean,
): [string, string][] {
  const taken: [string, string][] = [];
  const lines = linesOf(file);
  const left = lines.filter(line => {
    const [wantedOperation, wantedStep, wantedVerb, when, what] = line.split('/');
    if (!when || !what)
      throw new CriError('invalidArgument', `CRI_TS_FAULTS: ${JSON.stringify(line)} is no fault`);
    const isIt =
      wantedOperation === operation && wantedStep === step && wantedVerb === verb && isMoment(when);
    if (isIt) taken.push([when, what]);
    return !isIt;
  });
  if (taken.length > 0) writeFileSync(file, left.join('\n'));
  return taken;
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
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}
