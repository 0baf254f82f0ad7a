// StreamPodSandboxes: ListPodSandbox in messages of bounded size.

import { inBatches } from '../batches.ts';
import { matchesSandbox, toPodSandbox } from '../convert/sandbox.ts';
import type { StreamRpc } from '../parts.ts';

export const streamPodSandboxes: StreamRpc<'StreamPodSandboxes'> = async function* (parts, { filter }) {
  const found = parts.sandboxes.list().filter(sandbox => matchesSandbox(sandbox, filter));
  for (const batch of inBatches(found)) yield { podSandboxes: batch.map(toPodSandbox) };
};
