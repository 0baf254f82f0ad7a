// A cgroup v2: one directory with the files of all controllers.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type KeptFiles, processesBelow } from '../files.ts';
import type { CgroupLayout } from '../layout.ts';
import { readTaskCount, readTaskLimit } from '../pids.ts';
import { readPressure } from '../pressure.ts';
import type { Cgroup } from '../types.ts';
import { readCpuNs, readCpuTimes } from './cpu.ts';
import { readIo } from './io.ts';
import { readMemory, readMemoryDetail, readOomKills } from './memory.ts';

export function openV2Cgroup(layout: CgroupLayout, path: string, kept: KeptFiles): Cgroup {
  const directory = join(layout.unified ?? '/sys/fs/cgroup', path);
  return {
    path,
    exists: () => existsSync(directory),
    cpuNs: () => readCpuNs(directory, kept.read),
    cpuTimes: () => readCpuTimes(directory),
    memory: () => readMemory(directory, kept.read),
    memoryDetail: () => readMemoryDetail(directory),
    oomKillsBelow: () => readOomKills(directory),
    tasks: () => readTaskCount(directory, kept.read),
    taskLimit: () => readTaskLimit(directory),
    processes: () => processesBelow(directory),
    io: () => readIo(directory),
    pressure: resource => (layout.pressure ? readPressure(directory, resource, kept.read) : undefined),
    close: kept.close,
  };
}
