// A cgroup v1: a directory in the hierarchy of each controller, and in a hybrid layout one in the v2 hierarchy, which
// has its pressure.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type KeptFiles, processesBelow } from '../files.ts';
import type { CgroupLayout } from '../layout.ts';
import { readTaskCount, readTaskLimit } from '../pids.ts';
import { readPressure } from '../pressure.ts';
import type { Cgroup } from '../types.ts';
import { readIo } from './blkio.ts';
import { readCpuNs, readCpuTimes } from './cpu.ts';
import { readMemory, readMemoryDetail } from './memory.ts';

/** @param pathOf the path in a controller's hierarchy, `''` for the v2 one */
export function openV1Cgroup(
  layout: CgroupLayout,
  path: string,
  pathOf: (controller: string) => string,
  kept: KeptFiles,
): Cgroup {
  const directory = (controller: string) => {
    const mounted = layout.controllers.get(controller);
    return mounted === undefined ? undefined : join(mounted, pathOf(controller));
  };
  const [cpu, cpuacct, memory] = [directory('cpu'), directory('cpuacct'), directory('memory')];
  const [pids, blkio] = [directory('pids'), directory('blkio')];
  const unified =
    layout.pressure && layout.unified !== undefined ? join(layout.unified, pathOf('')) : undefined;
  return {
    path,
    exists: () => memory !== undefined && existsSync(memory),
    cpuNs: () => (cpuacct === undefined ? undefined : readCpuNs(cpuacct, kept.read)),
    cpuTimes: () => (cpuacct === undefined ? undefined : readCpuTimes(cpuacct, cpu)),
    memory: () => (memory === undefined ? undefined : readMemory(memory, kept.read)),
    memoryDetail: () => readMemoryDetail(memory ?? ''),
    oomKillsBelow: () => undefined,
    tasks: () => (pids === undefined ? undefined : readTaskCount(pids, kept.read)),
    taskLimit: () => (pids === undefined ? undefined : readTaskLimit(pids)),
    processes: () => (memory === undefined ? [] : processesBelow(memory)),
    io: () => (blkio === undefined ? [] : readIo(blkio)),
    pressure: resource => (unified === undefined ? undefined : readPressure(unified, resource, kept.read)),
    close: kept.close,
  };
}
