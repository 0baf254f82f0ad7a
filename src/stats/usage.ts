// What one cgroup uses now, as the CRI asks for it. A handful of small files, read at once.
import { nowNs } from '../container/container.ts';
import type { Cgroup, Memory, Pressure } from '../host/cgroup/types.ts';

export type { Pressure, PressureLine } from '../host/cgroup/types.ts';

export interface Usage {
  /** Nanoseconds since the epoch, decimal. */
  at: string;
  cpu: CpuUsage | undefined;
  memory: MemoryUsage | undefined;
  /** Bytes; `limit` undefined = none. */
  swap: { usage: number; limit: number | undefined } | undefined;
  /** Time lost in waiting for block devices. */
  ioPressure: Pressure | undefined;
  /** Processes and their threads. */
  tasks: number | undefined;
}

export interface CpuUsage {
  /** Nanoseconds of CPU time since it was made. */
  ns: number;
  /** Nanoseconds of CPU time a second, now; undefined while it is too young to tell. */
  rate: number | undefined;
  pressure: Pressure | undefined;
}

/** Bytes, and faults since it was made. */
export interface MemoryUsage {
  usage: number;
  /** What the kernel could not easily take back. */
  workingSet: number;
  /** What is left of the limit; undefined without a limit. */
  available: number | undefined;
  rss: number;
  pageFaults: number;
  majorPageFaults: number;
  pressure: Pressure | undefined;
}

export function readUsage(cgroup: Cgroup, cpuRate: number | undefined): Usage {
  const cpuNs = cgroup.cpuNs();
  const memory = cgroup.memory();
  return {
    at: nowNs(),
    cpu: cpuNs === undefined ? undefined : { ns: cpuNs, rate: cpuRate, pressure: cgroup.pressure('cpu') },
    memory: memory && memoryUsage(memory, cgroup.pressure('memory')),
    swap: memory?.swap,
    ioPressure: cgroup.pressure('io'),
    tasks: cgroup.tasks(),
  };
}

/** Usage without the inactive file cache, which the kernel drops first (kubelet evicts by this figure). */
export function workingSetOf({ usage, inactiveFile }: Pick<Memory, 'usage' | 'inactiveFile'>): number {
  return Math.max(0, usage - inactiveFile);
}

function memoryUsage(memory: Memory, pressure: Pressure | undefined): MemoryUsage {
  const workingSet = workingSetOf(memory);
  const { usage, limit, rss, pageFaults, majorPageFaults } = memory;
  const available = limit === undefined ? undefined : Math.max(0, limit - workingSet);
  return { usage, workingSet, available, rss, pageFaults, majorPageFaults, pressure };
}

/** The usage of several cgroups together. Pressures do not add up and are left out. */
export function sumOf(usages: readonly Usage[]): Usage {
  const cpus = usages.flatMap(({ cpu }) => cpu ?? []);
  const memories = usages.flatMap(({ memory }) => memory ?? []);
  const swaps = usages.flatMap(({ swap }) => swap ?? []);
  const sum = <T>(items: readonly T[], of: (item: T) => number | undefined) =>
    items.reduce((total, item) => total + (of(item) ?? 0), 0);
  return {
    at: nowNs(),
    cpu:
      cpus.length === 0
        ? undefined
        : {
            ns: sum(cpus, cpu => cpu.ns),
            rate: cpus.some(({ rate }) => rate !== undefined) ? sum(cpus, ({ rate }) => rate) : undefined,
            pressure: undefined,
          },
    memory:
      memories.length === 0
        ? undefined
        : {
            usage: sum(memories, ({ usage }) => usage),
            workingSet: sum(memories, ({ workingSet }) => workingSet),
            available: undefined,
            rss: sum(memories, ({ rss }) => rss),
            pageFaults: sum(memories, ({ pageFaults }) => pageFaults),
            majorPageFaults: sum(memories, ({ majorPageFaults }) => majorPageFaults),
            pressure: undefined,
          },
    swap: swaps.length === 0 ? undefined : { usage: sum(swaps, ({ usage }) => usage), limit: undefined },
    ioPressure: undefined,
    tasks: sum(usages, ({ tasks }) => tasks),
  };
}
