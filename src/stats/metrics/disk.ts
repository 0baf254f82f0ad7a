// Metrics of block devices, and of the file system that holds the container's writable layer.
import type { DeviceIo } from '../../host/cgroup/types.ts';
import type { LabelledValue, MetricFamily } from './family.ts';

export interface DiskSubject {
  io: readonly (DeviceIo & { device: string })[];
  /** undefined until the writable layer was measured. */
  layer: { bytes: number; inodes: number } | undefined;
  fileSystem: FileSystem | undefined;
}

export interface FileSystem {
  /** The device, as the mount table names it. */
  device: string;
  bytes: number;
  inodes: number;
  inodesFree: number;
}

type Io = DiskSubject['io'][number];

const perDevice = (value: (io: Io) => number) => (subject: DiskSubject) =>
  subject.io.map(io => ({ labels: [io.device], value: value(io) }));

const ofFileSystem =
  (value: (fileSystem: FileSystem, subject: DiskSubject) => number | undefined) =>
  (subject: DiskSubject): LabelledValue[] => {
    const found = subject.fileSystem && value(subject.fileSystem, subject);
    return found === undefined ? [] : [{ labels: [subject.fileSystem?.device ?? ''], value: found }];
  };

export const diskMetrics: readonly MetricFamily<DiskSubject>[] = [
  {
    name: 'container_fs_usage_bytes',
    help: 'What the container has written to its root file system, bytes.',
    type: 'GAUGE',
    labels: ['device'],
    read: ofFileSystem((_, { layer }) => layer?.bytes),
  },
  {
    name: 'container_fs_limit_bytes',
    help: 'Size of the file system that holds what the container writes, bytes.',
    type: 'GAUGE',
    labels: ['device'],
    read: ofFileSystem(({ bytes }) => bytes),
  },
  {
    name: 'container_fs_inodes_total',
    help: 'Inodes of the file system that holds what the container writes.',
    type: 'GAUGE',
    labels: ['device'],
    read: ofFileSystem(({ inodes }) => inodes),
  },
  {
    name: 'container_fs_inodes_free',
    help: 'Free inodes of the file system that holds what the container writes.',
    type: 'GAUGE',
    labels: ['device'],
    read: ofFileSystem(({ inodesFree }) => inodesFree),
  },
  {
    name: 'container_fs_reads_bytes_total',
    help: 'Bytes read from block devices.',
    type: 'COUNTER',
    labels: ['device'],
    read: perDevice(({ readBytes }) => readBytes),
  },
  {
    name: 'container_fs_reads_total',
    help: 'Reads from block devices.',
    type: 'COUNTER',
    labels: ['device'],
    read: perDevice(({ reads }) => reads),
  },
  {
    name: 'container_fs_writes_bytes_total',
    help: 'Bytes written to block devices.',
    type: 'COUNTER',
    labels: ['device'],
    read: perDevice(({ writeBytes }) => writeBytes),
  },
  {
    name: 'container_fs_writes_total',
    help: 'Writes to block devices.',
    type: 'COUNTER',
    labels: ['device'],
    read: perDevice(({ writes }) => writes),
  },
  {
    name: 'container_blkio_device_usage_total',
    help: 'Bytes moved to and from block devices.',
    type: 'COUNTER',
    labels: ['device', 'major', 'minor', 'operation'],
    read: ({ io }) =>
      io.flatMap(({ device, major, minor, readBytes, writeBytes }) => {
        const numbers = [device, String(major), String(minor)];
        return [
          { labels: [...numbers, 'Read'], value: readBytes },
          { labels: [...numbers, 'Write'], value: writeBytes },
        ];
      }),
  },
];
