// ContainerStatus: one container, and with `verbose` what is behind it.
import type { Container } from '../../container/container.ts';
import type { Loose } from '../../cri-api/contract.ts';
import type { ImageSpec, KeyValue } from '../../cri-api/types.ts';
import { toContainerStatus } from '../convert/container.ts';
import type { Parts, Rpc } from '../parts.ts';

export const containerStatus: Rpc<'ContainerStatus'> = async (parts, { containerId, verbose }) => {
  const container = parts.containers.find(containerId);
  return {
    status: { ...toContainerStatus(container), image: namedImage(parts, container) },
    ...(verbose ? { info: { info: JSON.stringify(await containerInfo(parts, container)) } } : {}),
  };
};

/** The image by its first tag, also when it was asked for by id: kubelet shows this name to people. */
function namedImage({ images }: Parts, { config, imageId }: Container): Loose<ImageSpec> {
  const tag = images.status(imageId)?.repoTags[0];
  return { ...config.image, ...(tag === undefined ? {} : { image: tag }) };
}

/** What `crictl inspect` shows beside the status; the names are those that containerd's users know. */
async function containerInfo(parts: Parts, container: Container): Promise<unknown> {
  const runs = container.phase === 'running';
  return {
    sandboxID: container.sandboxId,
    pid: runs ? (container.init?.pid ?? 0) : 0,
    monitorPid: runs ? (container.monitor?.pid ?? 0) : 0,
    removing: false,
    snapshotter: 'overlayfs',
    runtimeHandler: container.handler,
    config: { ...container.config, envs: container.config.envs.map(readable) },
    runtimeSpec: await parts.runtimeSpec(container.id, 'container'),
    steps: container.times,
  };
}

/** Values of variables are bytes in the CRI, which JSON has not. */
function readable({ key, value }: KeyValue): { key: string; value: string } {
  return { key, value: Buffer.from(value).toString() };
}
