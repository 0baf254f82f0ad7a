// PodSandboxStats: what one pod uses, its containers included.
import { CriError } from '../../errors.ts';
import { toPodSandboxStats } from '../convert/stats.ts';
import type { Rpc } from '../parts.ts';

export const podSandboxStats: Rpc<'PodSandboxStats'> = ({ sandboxes, stats }, { podSandboxId }) => {
  const sandbox = sandboxes.find(podSandboxId);
  const [usage] = stats.ofPods([sandbox]);
  if (!usage) {
    throw new CriError(
      'unavailable',
      `sandbox ${sandbox.id} is not READY: there is nothing of it to measure`,
    );
  }
  return { stats: toPodSandboxStats(usage, stats) };
};
