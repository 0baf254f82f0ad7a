// Every step, every fault. The steps of each lifecycle operation are taken from the engine itself: the operation is run
// once, and the daemon's log has a span for each step that was done or undone. Then the operation is run again for each
// step and each fault; after that, and after the clean-up calls that kubelet would make, the node must be as it was.
// A new step is covered by being a step.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { afterOnePod, everything, untilAsBefore } from '../support/everything.ts';
import { startLiar } from '../support/image/liar.ts';
import { layerOf, makeImage, makeTar } from '../support/image/make-image.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

/** A lifecycle operation in the middle of a pod's life. */
interface Operation {
  name: string;
  /** Brings a pod to where the operation can be called; returns the id to call it with. */
  prepare(): Promise<string>;
  call(id: string, signal: AbortSignal): Promise<unknown>;
  /** What must succeed after any disturbance, before the node is as it was. */
  afterwards?(id: string): Promise<void>;
}

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

// Two layers, so that one may be there when the other is not, and a file of a kilobyte in each.
const marks = ['lower', 'upper'];
const layers = marks.map(async name => layerOf(await makeTar([{ name, content: name.repeat(200) }]), 'gzip'));
registry.addImage(makeImage(await Promise.all(layers)), 'latest');
const imageName = `${registry.address}/app:latest`;
const asImage = { image: { image: imageName } };
const pulled = async () => {
  await node.cri.PullImage(asImage);
  return imageName;
};

/** An image that is listed is there with all its layers. */
async function expectNoHalfImage(): Promise<void> {
  const { image } = await node.cri.ImageStatus(asImage);
  const { files } = everything(node);
  const unpacked = marks.filter(mark => files.some(path => path.endsWith(`/${mark}`)));
  if (image) expect(unpacked).toEqual(marks);
}

/** Ends at once when it is asked to. */
const script = 'trap "exit 0" TERM; sleep 1000 & wait';
const pod = () => node.runPod();
const created = async () => node.createContainer(await pod(), script);
const running = async () => node.runContainer(await pod(), script);
const exited = async () => {
  const id = await node.runContainer(await pod(), 'true');
  await node.untilExited(id);
  return id;
};
const podOf = async (containerId: string) =>
  (await node.cri.ListContainers({ filter: { id: containerId } })).containers[0]?.podSandboxId ?? '';

const operations: Operation[] = [
  {
    name: 'RunPodSandbox',
    prepare: async () => '',
    call: (_, signal) => node.cri.RunPodSandbox({ config: node.podConfig() }, { signal }),
  },
  {
    name: 'CreateContainer',
    prepare: pod,
    call: (podSandboxId, signal) =>
      node.cri.CreateContainer(
        {
          podSandboxId,
          config: { metadata: { name: 'c' }, image: { image: 'test/busybox:latest' }, logPath: 'c.log' },
        },
        { signal },
      ),
  },
  {
    name: 'StartContainer',
    prepare: created,
    call: (containerId, signal) => node.cri.StartContainer({ containerId }, { signal }),
  },
  {
    name: 'StopContainer',
    prepare: running,
    call: (containerId, signal) => node.cri.StopContainer({ containerId, timeout: 10 }, { signal }),
  },
  {
    name: 'RemoveContainer',
    prepare: exited,
    call: (containerId, signal) => node.cri.RemoveContainer({ containerId }, { signal }),
  },
  {
    name: 'StopPodSandbox',
    prepare: async () => podOf(await running()),
    call: (podSandboxId, signal) => node.cri.StopPodSandbox({ podSandboxId }, { signal }),
  },
  {
    name: 'RemovePodSandbox',
    async prepare() {
      const podSandboxId = await podOf(await exited());
      await node.cri.StopPodSandbox({ podSandboxId });
      return podSandboxId;
    },
    call: (podSandboxId, signal) => node.cri.RemovePodSandbox({ podSandboxId }, { signal }),
  },
  {
    name: 'PullImage',
    prepare: async () => '',
    call: (_, signal) => node.cri.PullImage(asImage, { signal }),
    async afterwards() {
      await expectNoHalfImage();
      // What a broken pull has fetched is kept for this one.
      await insisting(pulled);
      await expectNoHalfImage();
      await insisting(() => node.cri.RemoveImage(asImage));
    },
  },
  {
    name: 'RemoveImage',
    prepare: pulled,
    call: (_, signal) => node.cri.RemoveImage(asImage, { signal }),
    async afterwards() {
      await expectNoHalfImage();
      await insisting(() => node.cri.RemoveImage(asImage));
    },
  },
];

const never = new AbortController().signal;
const faultOf = ({ operation, step, verb }: Span, rest: string) => `${operation}/${step}/${verb}/${rest}`;

/** Runs the operation under the faults; returns the steps that the engine took meanwhile, each once. */
async function spansOf(operation: Operation, ...faults: string[]): Promise<Span[]> {
  const id = await insisting(operation.prepare);
  const offset = (await settledLog()).length;
  arm(...faults);
  await operation.call(id, never).catch(() => {});
  const lines = (await settledLog()).slice(offset).split('\n').filter(Boolean);
  await operation.afterwards?.(id);
  const spans = lines
    .map(line => JSON.parse(line) as Span & { msg: string })
    .filter(({ msg }) => msg === 'step' || msg === 'step failed');
  return [...new Map(spans.map(span => [faultOf(span, ''), span])).values()];
}

/** The daemon's log when nothing more comes: a container's end goes on behind the call that ended it. */
async function settledLog(): Promise<string> {
  let before = '';
  return until('the log stands still', async () => {
    const log = await node.log();
    const isStill = log === before;
    before = log;
    if (!isStill) await sleep(settleMs);
    return isStill ? log : undefined;
  });
}
const settleMs = 500;

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

/** What is not disturbed here may nevertheless meet the short deadlines, on a busy machine. */
async function insisting<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
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

// What the first pod leaves for good (the bridge, empty directories) is there from now on.
arm();
let before = await afterOnePod(node);

for (const operation of operations) {
  const cases = await casesOf(operation);
  await untilAsBefore(node, before);
  combinations += cases.length;
  describe(operation.name, () => {
    for (const disturbance of cases) {
      it(`${disturbance.title}: nothing is left`, async () => {
        try {
          await disturb(disturbance);
          await untilAsBefore(node, before);
        } catch (error) {
          before = everything(node); // so that one leak is told once
          throw error;
        }
      });
    }
  });
}
