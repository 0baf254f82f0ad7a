// The v1 controllers cpuacct (what was used) and cpu (what the quota held up).
import { field, type ReadText, readNumber, readText } from '../files.ts';
import type { CpuTimes } from '../types.ts';

export function readCpuNs(cpuacct: string, read: ReadText): number | undefined {
  return readNumber(`${cpuacct}/cpuacct.usage`, read);
}

export function readCpuTimes(cpuacct: string, cpu: string | undefined): CpuTimes | undefined {
  const userNs = readNumber(`${cpuacct}/cpuacct.usage_user`);
  const systemNs = readNumber(`${cpuacct}/cpuacct.usage_sys`);
  if (userNs === undefined || systemNs === undefined) return undefined;
  const stat = (cpu === undefined ? undefined : readText(`${cpu}/cpu.stat`)) ?? '';
  return {
    userNs,
    systemNs,
    periods: field(stat, 'nr_periods') ?? 0,
    throttledPeriods: field(stat, 'nr_throttled') ?? 0,
    throttledNs: field(stat, 'throttled_time') ?? 0,
  };
}
