// StreamContainers: ListContainers in messages of bounded size.
import { inBatches } from '../batches.ts';
import { matchesContainer, toContainer } from '../convert/container.ts';
import type { StreamRpc } from '../parts.ts';

export const streamContainers: StreamRpc<'StreamContainers'> = async function* (parts, { filter }) {
  const found = parts.containers.list().filter(container => matchesContainer(container, filter));
  for (const batch of inBatches(found)) yield { containers: batch.map(toContainer) };
};
