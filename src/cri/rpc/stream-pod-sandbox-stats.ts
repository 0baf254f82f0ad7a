// StreamPodSandboxStats: ListPodSandboxStats in messages of bounded size.
import { inBatches } from '../batches.ts';
import { toPodSandboxStats, wantsSandboxStats } from '../convert/stats.ts';
import type { StreamRpc } from '../parts.ts';

export const streamPodSandboxStats: StreamRpc<'StreamPodSandboxStats'> = async function* (
  { sandboxes, stats },
  { filter },
) {
  const wanted = sandboxes.list().filter(sandbox => wantsSandboxStats(sandbox, filter));
  for (const batch of inBatches(wanted)) {
    yield { podSandboxStats: stats.ofPods(batch).map(usage => toPodSandboxStats(usage, stats)) };
  }
};
