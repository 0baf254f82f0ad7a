// Metrics of CPU time.
import type { CpuTimes } from '../../host/cgroup/types.ts';
import type { MetricFamily } from './family.ts';

export interface CpuSubject {
  cpuNs: number | undefined;
  cpuTimes: CpuTimes | undefined;
}

const nsPerSecond = 1e9;
const seconds = (ns: number | undefined) => (ns === undefined ? undefined : ns / nsPerSecond);

export const cpuMetrics: readonly MetricFamily<CpuSubject>[] = [
  {
    name: 'container_cpu_usage_seconds_total',
    help: 'CPU time consumed, seconds.',
    type: 'COUNTER',
    labels: ['cpu'],
    read: ({ cpuNs }) =>
      cpuNs === undefined ? undefined : [{ labels: ['total'], value: cpuNs / nsPerSecond }],
  },
  {
    name: 'container_cpu_user_seconds_total',
    help: 'CPU time consumed in user mode, seconds.',
    type: 'COUNTER',
    read: ({ cpuTimes }) => seconds(cpuTimes?.userNs),
  },
  {
    name: 'container_cpu_system_seconds_total',
    help: 'CPU time consumed in the kernel, seconds.',
    type: 'COUNTER',
    read: ({ cpuTimes }) => seconds(cpuTimes?.systemNs),
  },
  {
    name: 'container_cpu_cfs_periods_total',
    help: 'Enforcement periods of the CPU quota that have passed.',
    type: 'COUNTER',
    read: ({ cpuTimes }) => cpuTimes?.periods,
  },
  {
    name: 'container_cpu_cfs_throttled_periods_total',
    help: 'Enforcement periods in which the CPU quota was used up.',
    type: 'COUNTER',
    read: ({ cpuTimes }) => cpuTimes?.throttledPeriods,
  },
  {
    name: 'container_cpu_cfs_throttled_seconds_total',
    help: 'Time for which the CPU quota held tasks up, seconds.',
    type: 'COUNTER',
    read: ({ cpuTimes }) => seconds(cpuTimes?.throttledNs),
  },
];
