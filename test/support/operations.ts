// The lifecycle operations that fault tests disturb, each with what brings a pod to where it can be called.
import { expect } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { everything } from './everything.ts';
import type { Liar } from './image/liar.ts';
import { layerOf, makeImage, makeTar } from './image/make-image.ts';
import type { TestNode } from './node.ts';

/** A lifecycle operation in the middle of a pod's life. */
export interface Operation {
  /** As the RPC is. */
  name: string;
  /** What is particular about its subject, in words. */
  variant?: string;
  /** The steps that this variant is about. Default: all. */
  steps?: readonly string[];
  /** The grace period of a stop, which makes the deadline of a step. */
  graceMs?: number;
  /** Brings a pod to where the operation can be called; returns the id to call it with. */
  prepare(): Promise<string>;
  call(id: string, signal: AbortSignal): Promise<unknown>;
  /** What there is of its subject: a state of the CRI, `listed` for an image, or `absent`. */
  state(id: string): Promise<string>;
  /** The state after a success. */
  done: string;
  /** States after it failed, or its caller went away, and what it had begun was undone as far as that is its way. */
  failed: StatesByPlace;
  /** States after the daemon was killed at it and started again. */
  killed: StatesByPlace;
  /** Of what brings something up: states after undoing that was itself disturbed. */
  halfUndone?: readonly string[];
  /** What must succeed after any disturbance, before the node is as it was. */
  afterwards?(id: string): Promise<void>;
}

/** States that are possible by where an operation was struck. */
export interface StatesByPlace {
  beforeFirstStep: readonly string[];
  between: readonly string[];
  afterLastStep: readonly string[];
}

const always = (...states: string[]): StatesByPlace => ({
  beforeFirstStep: states,
  between: states,
  afterLastStep: states,
});

/** Of what takes away: nothing before its first step, all after its last one, either in between. */
const fromTo = (before: string, after: string): StatesByPlace => ({
  beforeFirstStep: [before],
  between: [before, after],
  afterLastStep: [after],
});

export const absent = 'absent';
const ready = 'SANDBOX_READY';
const notReady = 'SANDBOX_NOTREADY';
const created = 'CONTAINER_CREATED';
const running = 'CONTAINER_RUNNING';
const exited = 'CONTAINER_EXITED';
const unknown = 'CONTAINER_UNKNOWN';
const listed = 'listed';

/** What pods and containers are like besides: pods of host ports, containers with volumes. */
export interface Particulars {
  variant: string;
  pod: Loose<PodSandboxConfig>;
  container: Loose<ContainerConfig>;
  /** Steps by operation that are about them; others are left out. */
  steps: Readonly<Record<string, readonly string[]>>;
}

/** Operations on pods and containers of a node that has the busybox image. */
export function podOperationsOf(node: TestNode, particulars?: Particulars): Operation[] {
  const { pod: podOver, container: containerOver } = particulars ?? {};
  /** Ends at once when it is asked to. */
  const script = 'trap "exit 0" TERM; sleep 1000 & wait';
  const runPod = () => node.runPod(podOver);
  const createdOne = async () => node.createContainer(await runPod(), script, containerOver);
  const runningOne = async () => node.runContainer(await runPod(), script, containerOver);
  const exitedOne = async () => {
    const id = await node.runContainer(await runPod(), 'true', containerOver);
    await node.untilExited(id);
    return id;
  };
  const podOf = async (containerId: string) =>
    (await node.cri.ListContainers({ filter: { id: containerId } })).containers[0]?.podSandboxId ?? '';

  const containerState = async (filter: { id: string } | { podSandboxId: string }) => {
    const { containers } = await node.cri.ListContainers({ filter });
    expect(containers.length).toBeLessThan(2);
    return containers[0]?.state ?? absent;
  };
  const stateOfContainer = (id: string) => containerState({ id });
  const stateOfPod = async (id: string) => {
    const { items } = await node.cri.ListPodSandbox(id === '' ? {} : { filter: { id } });
    expect(items.length).toBeLessThan(2);
    return items[0]?.state ?? absent;
  };

  const operations: Operation[] = [
    {
      name: 'RunPodSandbox',
      prepare: async () => '',
      call: (_, signal) => node.cri.RunPodSandbox({ config: node.podConfig(podOver) }, { signal }),
      state: stateOfPod,
      done: ready,
      failed: always(absent),
      killed: always(absent),
      halfUndone: [notReady],
    },
    {
      name: 'CreateContainer',
      prepare: runPod,
      call: (podSandboxId, signal) =>
        node.cri.CreateContainer(
          {
            podSandboxId,
            config: {
              image: { image: 'test/busybox:latest' },
              logPath: 'c.log',
              ...containerOver,
              metadata: { name: 'c' },
            },
          },
          { signal },
        ),
      state: podSandboxId => containerState({ podSandboxId }),
      done: created,
      failed: always(absent),
      killed: always(absent),
      // `created` is the last step, and the first to be undone.
      halfUndone: [created, unknown],
    },
    {
      name: 'StartContainer',
      prepare: createdOne,
      call: (containerId, signal) => node.cri.StartContainer({ containerId }, { signal }),
      state: stateOfContainer,
      done: running,
      failed: always(exited), // with StartError: a container is started once
      killed: always(exited),
      halfUndone: [exited],
    },
    {
      name: 'StopContainer',
      graceMs: 1000,
      prepare: runningOne,
      call: (containerId, signal) => node.cri.StopContainer({ containerId, timeout: 1 }, { signal }),
      state: stateOfContainer,
      done: exited,
      failed: fromTo(running, exited),
      killed: fromTo(running, exited),
    },
    {
      name: 'RemoveContainer',
      prepare: exitedOne,
      call: (containerId, signal) => node.cri.RemoveContainer({ containerId }, { signal }),
      state: stateOfContainer,
      done: absent,
      failed: fromTo(exited, absent),
      killed: fromTo(exited, absent),
    },
    {
      name: 'StopPodSandbox',
      prepare: async () => podOf(await runningOne()),
      call: (podSandboxId, signal) => node.cri.StopPodSandbox({ podSandboxId }, { signal }),
      state: stateOfPod,
      done: notReady,
      failed: fromTo(ready, notReady),
      killed: fromTo(ready, notReady),
    },
    {
      name: 'RemovePodSandbox',
      async prepare() {
        const podSandboxId = await podOf(await exitedOne());
        await node.cri.StopPodSandbox({ podSandboxId });
        return podSandboxId;
      },
      call: (podSandboxId, signal) => node.cri.RemovePodSandbox({ podSandboxId }, { signal }),
      state: stateOfPod,
      done: absent,
      failed: fromTo(notReady, absent),
      killed: fromTo(notReady, absent),
    },
  ];
  if (!particulars) return operations;
  const { variant, steps } = particulars;
  return operations.flatMap(operation => {
    const own = steps[operation.name];
    return own ? [{ ...operation, variant, steps: own }] : [];
  });
}

/** Operations of a node that has the busybox image; the registry is given an image to pull. */
export async function operationsOf(node: TestNode, registry: Liar): Promise<Operation[]> {
  // Two layers, so that one may be there when the other is not, and a file of a kilobyte in each.
  const marks = ['lower', 'upper'];
  const layers = marks.map(async name =>
    layerOf(await makeTar([{ name, content: name.repeat(200) }]), 'gzip'),
  );
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

  const state = async () => ((await node.cri.ImageStatus(asImage)).image ? listed : absent);

  return [
    ...podOperationsOf(node),
    {
      name: 'PullImage',
      prepare: async () => '',
      call: (_, signal) => node.cri.PullImage(asImage, { signal }),
      state,
      done: listed,
      failed: always(absent),
      // The last step is what makes it whole, though nobody was told.
      killed: { beforeFirstStep: [absent], between: [absent, listed], afterLastStep: [listed] },
      halfUndone: [absent, listed],
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
      state,
      done: absent,
      failed: fromTo(listed, absent),
      killed: always(absent), // it is on record before the first step, and finished at the next start
      async afterwards() {
        await expectNoHalfImage();
        await insisting(() => node.cri.RemoveImage(asImage));
      },
    },
  ];
}

/** What is not disturbed itself may nevertheless meet the short deadlines of a test, on a busy machine. */
export async function insisting<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}
