// Metrics of memory.
import type { Memory, MemoryDetail } from '../../host/cgroup/types.ts';
import { workingSetOf } from '../usage.ts';
import type { MetricFamily } from './family.ts';

export interface MemorySubject {
  memory: Memory | undefined;
  memoryDetail: MemoryDetail;
}

export const memoryMetrics: readonly MetricFamily<MemorySubject>[] = [
  {
    name: 'container_memory_usage_bytes',
    help: 'Memory charged to the container, caches included, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.usage,
  },
  {
    name: 'container_memory_working_set_bytes',
    help: 'Memory that the kernel could not easily take back, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory && workingSetOf(memory),
  },
  {
    name: 'container_memory_rss',
    help: 'Anonymous memory, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.rss,
  },
  {
    name: 'container_memory_cache',
    help: 'Page cache, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.cache,
  },
  {
    name: 'container_memory_mapped_file',
    help: 'Memory-mapped files, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.mappedFile,
  },
  {
    name: 'container_memory_total_active_file_bytes',
    help: 'Page cache in use, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.activeFile,
  },
  {
    name: 'container_memory_total_inactive_file_bytes',
    help: 'Page cache not lately in use, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.inactiveFile,
  },
  {
    name: 'container_memory_swap',
    help: 'Swap in use, bytes.',
    type: 'GAUGE',
    read: ({ memory }) => memory?.swap?.usage,
  },
  {
    name: 'container_memory_kernel_usage',
    help: 'Memory that the kernel uses for the container, bytes.',
    type: 'GAUGE',
    read: ({ memoryDetail }) => memoryDetail.kernel,
  },
  {
    name: 'container_memory_max_usage_bytes',
    help: 'The most memory that was ever charged to the container, bytes.',
    type: 'GAUGE',
    read: ({ memoryDetail }) => memoryDetail.peak,
  },
  {
    name: 'container_memory_failcnt',
    help: 'How often memory usage met its limit.',
    type: 'COUNTER',
    read: ({ memoryDetail }) => memoryDetail.limitHits,
  },
  {
    name: 'container_memory_failures_total',
    help: 'Page faults; pgmajfault are those that had to read from disk.',
    type: 'COUNTER',
    labels: ['failure_type', 'scope'],
    read: ({ memory }) =>
      memory && [
        { labels: ['pgfault', 'container'], value: memory.pageFaults },
        { labels: ['pgmajfault', 'container'], value: memory.majorPageFaults },
      ],
  },
  {
    name: 'container_oom_events_total',
    help: 'Processes that the OOM killer ended.',
    type: 'COUNTER',
    read: ({ memoryDetail }) => memoryDetail.oomKills,
  },
];
