// ListPodSandboxStats: what every READY pod that passes the filter uses.
import { toPodSandboxStats, wantsSandboxStats } from '../convert/stats.ts';
import type { Rpc } from '../parts.ts';

export const listPodSandboxStats: Rpc<'ListPodSandboxStats'> = ({ sandboxes, stats }, { filter }) => {
  const wanted = sandboxes.list().filter(sandbox => wantsSandboxStats(sandbox, filter));
  return { stats: stats.ofPods(wanted).map(usage => toPodSandboxStats(usage, stats)) };
};
