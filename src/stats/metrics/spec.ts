// Metrics of what was asked for a container: its limits, as CreateContainer or UpdateContainerResources last set them.
import type { LinuxContainerResources } from '../../cri-api/types.ts';
import type { MetricFamily } from './family.ts';

export interface SpecSubject {
  resources: Partial<LinuxContainerResources>;
}

/** In the CRI zero means "not said"; a quota below zero means none. */
const said = (value: string | number | undefined) => (Number(value ?? 0) > 0 ? Number(value) : undefined);

export const specMetrics: readonly MetricFamily<SpecSubject>[] = [
  {
    name: 'container_spec_cpu_period',
    help: 'Enforcement period of the CPU quota, microseconds.',
    type: 'GAUGE',
    read: ({ resources }) => said(resources.cpuPeriod),
  },
  {
    name: 'container_spec_cpu_quota',
    help: 'CPU time allowed in each enforcement period, microseconds.',
    type: 'GAUGE',
    read: ({ resources }) => said(resources.cpuQuota),
  },
  {
    name: 'container_spec_cpu_shares',
    help: 'Weight of the container where CPU time is scarce.',
    type: 'GAUGE',
    read: ({ resources }) => said(resources.cpuShares),
  },
  {
    name: 'container_spec_memory_limit_bytes',
    help: 'Memory limit, bytes; 0 = none.',
    type: 'GAUGE',
    read: ({ resources }) => said(resources.memoryLimitInBytes) ?? 0,
  },
  {
    name: 'container_spec_memory_swap_limit_bytes',
    help: 'Limit of memory and swap together, bytes; 0 = none.',
    type: 'GAUGE',
    read: ({ resources }) => said(resources.memorySwapLimitInBytes) ?? 0,
  },
  {
    name: 'container_spec_memory_reservation_limit_bytes',
    help: 'Memory that is left to the container under pressure, bytes; 0 = none. The CRI has no word for it but memory.low.',
    type: 'GAUGE',
    read: ({ resources }) => said(resources.unified?.['memory.low']) ?? 0,
  },
];
