// StreamContainerStats: ListContainerStats in messages of bounded size.
import { inBatches } from '../batches.ts';
import { toContainerStats, wantsContainerStats } from '../convert/stats.ts';
import type { StreamRpc } from '../parts.ts';

export const streamContainerStats: StreamRpc<'StreamContainerStats'> = async function* (
  { containers, stats },
  { filter },
) {
  const wanted = containers.list().filter(container => wantsContainerStats(container, filter));
  for (const batch of inBatches(wanted)) {
    yield { containerStats: stats.ofContainers(batch).map(usage => toContainerStats(usage, stats)) };
  }
};
