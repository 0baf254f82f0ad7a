// Cgroup limits: from the CRI's LinuxContainerResources into `linux.resources`, when a container is made and
// when its limits change while it runs, and back again for ContainerStatus.
import type { LinuxContainerResources } from '../../cri-api/types.ts';
import type { HostFacts } from './host-facts.ts';
import { exactInteger, refuse } from './refuse.ts';
import type { Resources } from './types.ts';

export interface ResourceContext {
  subject: string;
  host: Pick<HostFacts, 'cgroup'>;
  /** Huge page limits are left out even where the controller exists. */
  disableHugetlbController: boolean;
  /** Huge page limits are dropped, not refused, where the controller is missing. */
  tolerateMissingHugetlbController: boolean;
  warn: (message: string) => void;
}

/**
 * `base` with what `change` says laid over it. In the CRI zero, or an empty text, means "not said" and
 * leaves the value of `base`. Neither argument is changed.
 */
export function applyResources(
  base: Resources,
  change: LinuxContainerResources | null,
  context: ResourceContext,
): Resources {
  if (change === null) return base;
  const memory = { ...base.memory, ...memoryLimits(change, context) };
  if ((memory.swap ?? -1) >= 0 && (memory.limit ?? 0) > (memory.swap ?? 0)) {
    refuse(
      context.subject,
      'resources.memory_swap_limit_in_bytes',
      `${memory.swap} is below the memory limit ${memory.limit}; it counts memory and swap together`,
    );
  }
  const cpu = { ...base.cpu, ...cpuLimits(change, context) };
  const hugepageLimits = hugepages(base, change, context);
  const unified = unifiedFiles(base, change, context);
  return {
    ...base,
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(hugepageLimits.length > 0 ? { hugepageLimits } : {}),
    ...(Object.keys(unified).length > 0 ? { unified } : {}),
  };
}

function memoryLimits(
  change: LinuxContainerResources,
  context: ResourceContext,
): NonNullable<Resources['memory']> {
  const limit = integer(change, 'memoryLimitInBytes', context);
  const asked = integer(change, 'memorySwapLimitInBytes', context);
  // Without a word about swap a limited container gets none: memory plus swap may be as much as memory alone.
  const swap = asked === 0 ? limit : asked;
  return {
    ...(limit === 0 ? {} : { limit }),
    ...(swap === 0 || !context.host.cgroup.swap ? {} : { swap }),
  };
}

function cpuLimits(change: LinuxContainerResources, context: ResourceContext): NonNullable<Resources['cpu']> {
  const shares = integer(change, 'cpuShares', context);
  const quota = integer(change, 'cpuQuota', context);
  const period = integer(change, 'cpuPeriod', context);
  if (shares < 0) refuse(context.subject, 'resources.cpu_shares', `${shares} is negative`);
  if (period < 0) refuse(context.subject, 'resources.cpu_period', `${period} is negative`);
  return {
    ...(shares === 0 ? {} : { shares }),
    ...(quota === 0 ? {} : { quota }),
    ...(period === 0 ? {} : { period }),
    ...(change.cpusetCpus === '' ? {} : { cpus: change.cpusetCpus }),
    ...(change.cpusetMems === '' ? {} : { mems: change.cpusetMems }),
  };
}

function hugepages(
  base: Resources,
  change: LinuxContainerResources,
  context: ResourceContext,
): NonNullable<Resources['hugepageLimits']> {
  const { subject, host, warn, disableHugetlbController, tolerateMissingHugetlbController } = context;
  const kept = base.hugepageLimits ?? [];
  if (change.hugepageLimits.length === 0 || disableHugetlbController) return kept;
  if (!host.cgroup.hugetlb) {
    if (!tolerateMissingHugetlbController) {
      refuse(
        subject,
        'resources.hugepage_limits',
        'this host has no hugetlb cgroup controller; set tolerate_missing_hugetlb_controller to run without the limits',
      );
    }
    if (change.hugepageLimits.some(({ limit }) => Number(limit) !== 0)) {
      warn(`${subject}: huge page limits left out: this host has no hugetlb cgroup controller`);
    }
    return kept;
  }
  const bySize = new Map(kept.map(({ pageSize, limit }) => [pageSize, limit]));
  for (const { pageSize, limit } of change.hugepageLimits) {
    bySize.set(pageSize, exactInteger(limit, subject, `resources.hugepage_limits["${pageSize}"]`));
  }
  return [...bySize].map(([pageSize, limit]) => ({ pageSize, limit }));
}

function unifiedFiles(
  base: Resources,
  change: LinuxContainerResources,
  { subject, host }: ResourceContext,
): Record<string, string> {
  const keys = Object.keys(change.unified);
  const bad = keys.find(key => !/^[a-z0-9_]+\.[a-zA-Z0-9_.]+$/.test(key));
  if (bad !== undefined) refuse(subject, `resources.unified["${bad}"]`, 'is not the name of a cgroup file');
  if (keys.length > 0 && host.cgroup.version === 1) {
    refuse(subject, `resources.unified["${keys[0]}"]`, 'needs cgroup v2, and this host runs cgroup v1');
  }
  return { ...base.unified, ...change.unified };
}

type IntegerField = 'cpuPeriod' | 'cpuQuota' | 'cpuShares' | 'memoryLimitInBytes' | 'memorySwapLimitInBytes';

function integer(change: LinuxContainerResources, field: IntegerField, { subject }: ResourceContext): number {
  return exactInteger(change[field], subject, `resources.${field}`);
}

/**
 * The JSON that `runc update --resources -` reads. It takes a zero or absent value as "leave it", so the whole
 * of the merged limits is given. Devices and huge pages cannot be updated and stay out.
 */
export function updateDocument(resources: Resources): string {
  const { memory, cpu, pids, unified } = resources;
  return JSON.stringify({ memory, cpu, pids, unified });
}

/**
 * The same for the way back from an update that failed midway. Limits of memory and CPU time that there were none of are lifted;
 * for other values that were not set runtimes have no word.
 */
export function undoDocument(before: Resources, changed: Resources): string {
  const { memory, cpu } = changed;
  return updateDocument({
    ...before,
    memory: {
      ...(memory?.limit === undefined ? {} : { limit: unlimited }),
      ...(memory?.swap === undefined ? {} : { swap: unlimited }),
      ...before.memory,
    },
    cpu: { ...(cpu?.quota === undefined ? {} : { quota: unlimited }), ...before.cpu },
  });
}

const unlimited = -1;

/** The limits as ContainerStatus.resources reports them. */
export function reportedResources(
  resources: Resources,
  oomScoreAdj: number | undefined,
): LinuxContainerResources {
  const { memory, cpu, hugepageLimits, unified } = resources;
  return {
    cpuPeriod: cpu?.period ?? 0,
    cpuQuota: cpu?.quota ?? 0,
    cpuShares: cpu?.shares ?? 0,
    memoryLimitInBytes: memory?.limit ?? 0,
    memorySwapLimitInBytes: memory?.swap ?? 0,
    oomScoreAdj: oomScoreAdj ?? 0,
    cpusetCpus: cpu?.cpus ?? '',
    cpusetMems: cpu?.mems ?? '',
    hugepageLimits: hugepageLimits ?? [],
    unified: unified ?? {},
  };
}
