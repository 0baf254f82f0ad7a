// Limits of the process that the host may not let us set: oom_score_adj and rlimits. They are clamped to what
// is allowed, since a pod that runs with a slightly other limit is better than one that does not run.

import type { HostFacts } from './host-facts.ts';
import { refuse } from './refuse.ts';
import type { Rlimit } from './types.ts';

export interface OomRequest {
  subject: string;
  wanted: number;
  /** Never below the daemon's own (`restrict_oom_score_adj`). */
  restrict: boolean;
  host: Pick<HostFacts, 'oomScoreAdj' | 'hasCapSysResource'>;
  warn: (message: string) => void;
}

/** Lowering the score below the daemon's own takes CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5)). */
export function buildOomScoreAdj({ subject, wanted, restrict, host, warn }: OomRequest): number {
  if (wanted < -1000 || wanted > 1000) {
    refuse(subject, 'oom_score_adj', `${wanted} is out of range (-1000 to 1000)`);
  }
  if (wanted >= host.oomScoreAdj) return wanted;
  if (restrict) return host.oomScoreAdj;
  if (host.hasCapSysResource) return wanted;
  warn(
    `${subject}: oom_score_adj ${host.oomScoreAdj} instead of ${wanted}: lowering it needs CAP_SYS_RESOURCE, which the daemon does not have`,
  );
  return host.oomScoreAdj;
}

/** The limits with soft at most hard, and hard at most the daemon's own where it cannot be raised. */
export function clampRlimits(
  subject: string,
  wanted: readonly Rlimit[],
  host: Pick<HostFacts, 'rlimits' | 'hasCapSysResource'>,
  warn: (message: string) => void,
): Rlimit[] {
  return wanted.map(limit => {
    const ceiling = host.hasCapSysResource ? undefined : host.rlimits.get(limit.type)?.hard;
    if (ceiling === undefined || limit.hard <= ceiling)
      return { ...limit, soft: Math.min(limit.soft, limit.hard) };
    warn(
      `${subject}: ${limit.type} ${ceiling} instead of ${limit.hard}: raising it needs CAP_SYS_RESOURCE, which the daemon does not have`,
    );
    return { type: limit.type, soft: Math.min(limit.soft, ceiling), hard: ceiling };
  });
}
