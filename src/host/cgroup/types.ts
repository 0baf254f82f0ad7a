// What a cgroup tells of the processes in it and below, the same for cgroup v1 and v2. Everything is read anew at each
// call; what the kernel or the layout does not have is undefined. Figures are numbers: beyond 2^53 (a hundred
// core-days in nanoseconds) their last digits are rounded, which no reader of statistics sees.

/** CPU time since the cgroup was made, and how often its quota held it up. */
export interface CpuTimes {
  userNs: number;
  systemNs: number;
  /** Enforcement periods of the CPU quota: all that passed, those that were throttled, and for how long. */
  periods: number;
  throttledPeriods: number;
  throttledNs: number;
}

/** Bytes, and faults since the cgroup was made. */
export interface Memory {
  usage: number;
  /** undefined = no limit. */
  limit: number | undefined;
  /** Anonymous memory. */
  rss: number;
  cache: number;
  mappedFile: number;
  activeFile: number;
  inactiveFile: number;
  pageFaults: number;
  majorPageFaults: number;
  /** undefined when swap is not accounted. `limit` is of swap alone. */
  swap: { usage: number; limit: number | undefined } | undefined;
}

/** What is rarely asked of memory, and costs files of its own. */
export interface MemoryDetail {
  kernel: number | undefined;
  /** The most that usage has been. */
  peak: number | undefined;
  /** How often usage met the limit. */
  limitHits: number | undefined;
  oomKills: number | undefined;
}

/** Reads and writes of one block device since the cgroup was made. */
export interface DeviceIo {
  major: number;
  minor: number;
  readBytes: number;
  writeBytes: number;
  reads: number;
  writes: number;
}

export type PressureResource = 'cpu' | 'memory' | 'io';

/** Pressure stall information (the kernel's Documentation/accounting/psi.rst). */
export interface Pressure {
  /** Some task waited. */
  some: PressureLine | undefined;
  /** All tasks waited at once. */
  full: PressureLine | undefined;
}

export interface PressureLine {
  totalNs: number;
  /** Percent of the time, over the last 10, 60 and 300 seconds. */
  avg10: number;
  avg60: number;
  avg300: number;
}

export interface Cgroup {
  /** Its path below the roots of the hierarchies. */
  readonly path: string;
  exists(): boolean;
  /** CPU time of all cores since it was made, in nanoseconds. */
  cpuNs(): number | undefined;
  cpuTimes(): CpuTimes | undefined;
  memory(): Memory | undefined;
  memoryDetail(): MemoryDetail;
  /**
   * Processes that the OOM killer ended in it and below, in cgroups that are gone too. undefined with v1, which counts for each
   * cgroup alone.
   */
  oomKillsBelow(): number | undefined;
  /** Processes and their threads. */
  tasks(): number | undefined;
  /** The most tasks that it may have; undefined = no limit. */
  taskLimit(): number | undefined;
  /** Pids of the processes in it and below. */
  processes(): number[];
  io(): DeviceIo[];
  pressure(resource: PressureResource): Pressure | undefined;
  /** Closes the files that are kept open for the next call: of CPU time, memory, tasks and pressure. */
  close(): void;
}
