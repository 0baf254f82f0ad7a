// The lifecycle operations that fault tests disturb, each with what brings a pod to where it can be called.
import { expect } from 'vitest';
import { everything } from './everything.ts';
import type { Liar } from './image/liar.ts';
import { layerOf, makeImage, makeTar } from './image/make-image.ts';
import type { TestNode } from './node.ts';

/** A lifecycle operation in the middle of a pod's life. */
export interface Operation {
  name: string;
  /** Brings a pod to where the operation can be called; returns the id to call it with. */
  prepare(): Promise<string>;
  call(id: string, signal: AbortSignal): Promise<unknown>;
  /** What must succeed after any disturbance, before the node is as it was. */
  afterwards?(id: string): Promise<void>;
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

  return [
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
