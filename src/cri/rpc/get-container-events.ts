// GetContainerEvents: what happens to containers and sandboxes, as it happens, each with the pod's state then.
import type { PodEvent } from '../../sandbox/events.ts';
import { toContainerStatus } from '../convert/container.ts';
import { toPodSandboxStatus } from '../convert/sandbox.ts';
import type { Parts, StreamRpc } from '../parts.ts';

export const getContainerEvents: StreamRpc<'GetContainerEvents'> = async function* (
  parts,
  _request,
  { signal },
) {
  for await (const event of parts.events.listen(signal)) {
    const { containerId, type, at } = event;
    yield { containerId, containerEventType: type, createdAt: at, ...podState(parts, event) };
  }
};

/** The sandbox and its containers as they are when the event is sent, without what it says is gone. */
function podState(parts: Parts, { type, containerId, sandboxId }: PodEvent) {
  const gone = type === 'CONTAINER_DELETED_EVENT' ? containerId : undefined;
  const sandbox = parts.sandboxes.list().find(({ id }) => id === sandboxId);
  if (!sandbox || gone === sandboxId) return {};
  const containers = parts.containers
    .list()
    .filter(container => container.sandboxId === sandboxId && container.id !== gone);
  return {
    podSandboxStatus: toPodSandboxStatus(sandbox),
    containersStatuses: containers.map(toContainerStatus),
  };
}
