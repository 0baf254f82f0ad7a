// Metrics of a container's processes, and of when it was started and seen.
import type { MetricFamily } from './family.ts';

export interface ProcessSubject {
  processes: number;
  tasks: number | undefined;
  /** undefined = no limit. */
  taskLimit: number | undefined;
  /** Open file descriptors of all processes, and how many of them are sockets. */
  descriptors: { all: number; sockets: number };
  /** Soft limit of open files of the first process; undefined = none. */
  openFilesLimit: number | undefined;
  /** Seconds since the epoch. */
  startedAt: number;
  seenAt: number;
}

export const processMetrics: readonly MetricFamily<ProcessSubject>[] = [
  {
    name: 'container_processes',
    help: 'Processes in the container.',
    type: 'GAUGE',
    read: ({ processes }) => processes,
  },
  {
    name: 'container_threads',
    help: 'Threads in the container.',
    type: 'GAUGE',
    read: ({ tasks }) => tasks,
  },
  {
    name: 'container_threads_max',
    help: 'The most threads that the container may have; 0 = no limit.',
    type: 'GAUGE',
    read: ({ taskLimit }) => taskLimit ?? 0,
  },
  {
    name: 'container_file_descriptors',
    help: 'Open file descriptors of the processes in the container.',
    type: 'GAUGE',
    read: ({ descriptors }) => descriptors.all,
  },
  {
    name: 'container_sockets',
    help: 'Open sockets of the processes in the container.',
    type: 'GAUGE',
    read: ({ descriptors }) => descriptors.sockets,
  },
  {
    name: 'container_ulimits_soft',
    help: 'Soft resource limits of the first process of the container; absent where there is none.',
    type: 'GAUGE',
    labels: ['ulimit'],
    read: ({ openFilesLimit }) =>
      openFilesLimit === undefined ? [] : [{ labels: ['max_open_files'], value: openFilesLimit }],
  },
  {
    name: 'container_start_time_seconds',
    help: 'When the container was started, seconds since the epoch.',
    type: 'GAUGE',
    read: ({ startedAt }) => startedAt,
  },
  {
    name: 'container_last_seen',
    help: 'When the container was last seen, seconds since the epoch.',
    type: 'GAUGE',
    read: ({ seenAt }) => seenAt,
  },
];
