// Every step, every fault. The steps of each lifecycle operation are taken from the engine itself: the operation is run
// once, and the daemon's log has a span for each step that was done or undone. Then the operation is run again for each
// step and each fault; after that, and after the clean-up calls that kubelet would make, the node must be as it was.
// A new step is covered by being a step.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { afterOnePod, everything, untilAsBefore } from '../support/everything.ts';
import { startLiar } from '../support/image/liar.ts';
import { standingStill, startNode, type TestNode, until } from '../support/node.ts';
import { insisting, type Operation, operationsOf } from '../support/operations.ts';

interface Span {
  operation: string;
  step: string;
  verb: string;
  ms: number;
}

const faultDirectory = mkdtempSync(join(tmpdir(), 'ct-faults-'));
const faultFile = join(faultDirectory, 'faults');
const arm = (...faults: string[]) => writeFileSync(faultFile, faults.join('\n'));
const armed = () => readFileSync(faultFile, 'utf8');

// Deadlines are short here, for each injected hang lasts so long.
const node: TestNode = await startNode({
  config: '[plugins."io.cri-ts"]\nstep_timeout = "2s"\nundo_timeout = "2s"\n',
  env: { CRI_TS_FAULTS: faultFile },
});
const registry = await startLiar();
let combinations = 0;
afterAll(async () => {
  await node.destroy();
  await registry.close();
  rmSync(faultDirectory, { recursive: true });
  console.log(`fault matrix: ${combinations} combinations of operation, step and fault`);
});

const operations = await operationsOf(node, registry);

const faultOf = ({ operation, step, verb }: Span, rest: string) => `${operation}/${step}/${verb}/${rest}`;

/** Runs the operation under the faults; returns the steps that the engine took meanwhile, each once. */
async function spansOf(operation: Operation, ...faults: string[]): Promise<Span[]> {
  const id = await insisting(operation.prepare);
  const offset = (await settledLog()).length;
  arm(...faults);
  await operation.call(id, new AbortController().signal).catch(() => {});
  const lines = (await settledLog()).slice(offset).split('\n').filter(Boolean);
  await operation.afterwards?.(id);
  const spans = lines
    .map(line => JSON.parse(line) as Span & { msg: string })
    .filter(({ msg }) => msg === 'step' || msg === 'step failed');
  return [...new Map(spans.map(span => [faultOf(span, ''), span])).values()];
}

/** The daemon's log when nothing more comes: a container's end goes on behind the call that ended it. */
const settledLog = () => standingStill(() => node.log());

/** One way to disturb an operation. */
interface Case {
  operation: Operation;
  title: string;
  /** Faults that strike during the call. */
  faults: string[];
  /** Faults that strike while the daemon, killed by the first ones, is started again. */
  inRecovery?: string[];
  /** The caller goes away as soon as the fault has struck. */
  cancels?: boolean;
}

const bringsUp = ['RunPodSandbox', 'CreateContainer', 'StartContainer', 'PullImage'];

async function casesOf(operation: Operation): Promise<Case[]> {
  const spans = await spansOf(operation);
  const cases = spans.flatMap(span => singleFaults(operation, span));
  const last = spans.filter(({ verb }) => verb === 'do').at(-1);
  // What brings something up is undone when it fails, and at the next start when the daemon is killed: faults in that.
  if (!last || !bringsUp.includes(operation.name)) return cases;
  const undone = (await spansOf(operation, faultOf(last, 'after/fail'))).filter(
    ({ verb }) => verb === 'undo',
  );
  return [...cases, ...undone.flatMap(span => secondFaults(operation, last, span))];
}

function singleFaults(operation: Operation, span: Span): Case[] {
  const { step, verb, ms } = span;
  const one = (words: string, rest: string, more: Partial<Case> = {}): Case => ({
    operation,
    title: `${words} ${verb === 'do' ? '' : 'the undo of '}"${step}" (${span.operation})`,
    faults: [faultOf(span, rest)],
    ...more,
  });
  return [
    one('daemon killed before', 'before/kill'),
    ...(ms > 1 ? [one('daemon killed within', `within:${Math.round(ms / 2)}/kill`)] : []),
    one('daemon killed after', 'after/kill'),
    one('failure before', 'before/fail'),
    one('failure after', 'after/fail'),
    one('hang in', 'before/hang'),
    ...(verb === 'do' ? [one('caller gone during', 'before/hang', { cancels: true })] : []),
  ];
}

function secondFaults(operation: Operation, last: Span, undo: Span): Case[] {
  const failed = (words: string, rest: string): Case => ({
    operation,
    title: `failed, and then ${words} the undo of "${undo.step}"`,
    faults: [faultOf(last, 'after/fail'), faultOf(undo, rest)],
  });
  return [
    failed('the daemon killed before', 'before/kill'),
    failed('a failure before', 'before/fail'),
    {
      operation,
      title: `daemon killed, and killed again at the next start before the undo of "${undo.step}"`,
      faults: [faultOf(last, 'before/kill')], // after it, there may be nothing to undo any more
      inRecovery: [faultOf(undo, 'before/kill')],
    },
  ];
}

/** A caller goes away in the end, which is what bounds a step without a deadline of its own (a grace period). */
const patienceMs = 4000;

async function disturb({ operation, faults, inRecovery = [], cancels }: Case): Promise<void> {
  const id = await insisting(operation.prepare);
  const abort = new AbortController();
  arm(...faults);
  const call = operation.call(id, abort.signal).catch(() => {});
  await until('every fault has struck', () => armed() === '' || undefined);
  const patience = setTimeout(() => abort.abort(), cancels ? 0 : patienceMs);
  await call;
  clearTimeout(patience);
  if (faults.some(fault => fault.endsWith('kill'))) await restart(inRecovery);
  await operation.afterwards?.(id);
}

async function restart(faults: readonly string[]): Promise<void> {
  await node.ended();
  arm(...faults);
  await node.start().catch(error => {
    if (!faults.some(fault => fault.endsWith('kill'))) throw error;
    return node.start();
  });
  expect(armed()).toBe('');
}

// What the first pod leaves for good (the bridge, empty directories) is there from now on. The descriptors are to be those
// of a daemon that has just started and does nothing.
arm();
await afterOnePod(node);
await node.kill();
await node.start();
let before = await standingStill(() => everything(node));

for (const operation of operations) {
  const cases = await casesOf(operation);
  registry.closeIdleConnections();
  await untilAsBefore(node, before);
  combinations += cases.length;
  describe(operation.name, () => {
    for (const disturbance of cases) {
      it(`${disturbance.title}: nothing is left`, async () => {
        try {
          await disturb(disturbance);
          registry.closeIdleConnections();
          await untilAsBefore(node, before);
        } catch (error) {
          before = everything(node); // so that one leak is told once
          throw error;
        }
      });
    }
  });
}
