// The v2 cpu controller; cpu.stat counts microseconds.
import { field, type ReadText, readText } from '../files.ts';
import type { CpuTimes } from '../types.ts';

export function readCpuNs(directory: string, read: ReadText): number | undefined {
  return inNs(read(`${directory}/cpu.stat`) ?? '', 'usage_usec');
}

export function readCpuTimes(directory: string): CpuTimes | undefined {
  const stat = readText(`${directory}/cpu.stat`);
  if (stat === undefined) return undefined;
  return {
    userNs: inNs(stat, 'user_usec') ?? 0,
    systemNs: inNs(stat, 'system_usec') ?? 0,
    periods: field(stat, 'nr_periods') ?? 0,
    throttledPeriods: field(stat, 'nr_throttled') ?? 0,
    throttledNs: inNs(stat, 'throttled_usec') ?? 0,
  };
}

function inNs(stat: string, key: string): number | undefined {
  const microseconds = field(stat, key);
  return microseconds === undefined ? undefined : microseconds * 1000;
}
