// Containers as CRI messages.

import type { Container } from '../../container/container.ts';
import { signalName } from '../../container/signals.ts';
import type { Loose } from '../../cri-api/contract.ts';
import type {
  ContainerFilter,
  Container as ContainerMessage,
  ContainerState,
  ContainerStatus,
  Mount,
} from '../../cri-api/types.ts';
import { matchesLabels } from './sandbox.ts';

export function containerState({ phase }: Container): ContainerState {
  switch (phase) {
    case 'creating':
      return 'CONTAINER_UNKNOWN'; // it did not come about, and undoing it is not finished
    case 'created':
    case 'starting':
      return 'CONTAINER_CREATED';
    case 'running':
      return 'CONTAINER_RUNNING';
    case 'exited':
      return 'CONTAINER_EXITED';
  }
}

export function toContainer(container: Container): Loose<ContainerMessage> {
  const { id, sandboxId, config, imageRef, imageId, createdAt } = container;
  return {
    id,
    podSandboxId: sandboxId,
    metadata: config.metadata,
    image: config.image,
    imageRef,
    imageId,
    state: containerState(container),
    createdAt,
    labels: config.labels,
    annotations: config.annotations,
  };
}

export function toContainerStatus(container: Container): Loose<ContainerStatus> {
  const { config, imageRef, imageId, user } = container;
  return {
    id: container.id,
    metadata: config.metadata,
    state: containerState(container),
    createdAt: container.createdAt,
    startedAt: container.startedAt,
    finishedAt: container.finishedAt,
    exitCode: container.exitCode,
    image: config.image,
    imageRef,
    imageId,
    reason: container.reason,
    message: container.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: mountsInUse(container),
    logPath: container.logPath ?? '',
    ...(container.resources ? { resources: { linux: container.resources } } : {}),
    user: { linux: { uid: user.uid, gid: user.gid, supplementalGroups: user.supplementalGroups } },
    stopSignal: signalName(container.stopSignal),
  };
}

/** As asked for; an image volume with the id of the image that is mounted, which its name may have left by now (KEP-5365). */
function mountsInUse({ config: { mounts }, imageVolumes }: Container): Loose<Mount>[] {
  const mounted = imageVolumes.values();
  return mounts.map(mount => {
    if (!mount.image?.image) return mount;
    return { ...mount, image: { ...mount.image, imageRef: mounted.next().value?.imageId ?? '' } };
  });
}

/** Whether a container passes a ListContainers filter. Ids may be prefixes; labels must all match. */
export function matchesContainer(container: Container, filter: ContainerFilter | null): boolean {
  if (!filter) return true;
  return (
    container.id.startsWith(filter.id) &&
    container.sandboxId.startsWith(filter.podSandboxId) &&
    (!filter.state || containerState(container) === filter.state.state) &&
    matchesLabels(container.config.labels, filter.labelSelector)
  );
}
