// StreamPodSandboxMetrics: ListPodSandboxMetrics in messages of bounded size.
import { inBatches } from '../batches.ts';
import { toPodSandboxMetrics } from '../convert/metrics.ts';
import type { StreamRpc } from '../parts.ts';

export const streamPodSandboxMetrics: StreamRpc<'StreamPodSandboxMetrics'> = async function* ({ stats }) {
  for (const batch of inBatches(await stats.metrics())) {
    yield { podSandboxMetrics: batch.map(toPodSandboxMetrics) };
  }
};
