// The v1 blkio controller: lines `8:0 Read 4096`, then a total. The throttle files count whatever the I/O scheduler.
import { readText } from '../files.ts';
import type { DeviceIo } from '../types.ts';

export function readIo(directory: string): DeviceIo[] {
  const devices = new Map<string, DeviceIo>();
  count(devices, directory, 'io_service_bytes', 'readBytes', 'writeBytes');
  count(devices, directory, 'io_serviced', 'reads', 'writes');
  return [...devices.values()];
}

type Counter = 'readBytes' | 'writeBytes' | 'reads' | 'writes';

function count(
  devices: Map<string, DeviceIo>,
  directory: string,
  file: string,
  read: Counter,
  write: Counter,
): void {
  const text = readText(`${directory}/blkio.throttle.${file}_recursive`) ?? '';
  for (const [, major, minor, operation, value] of text.matchAll(/^(\d+):(\d+) (Read|Write) (\d+)$/gm)) {
    const key = `${major}:${minor}`;
    const device = devices.get(key) ?? noIo(Number(major), Number(minor));
    device[operation === 'Read' ? read : write] = Number(value);
    devices.set(key, device);
  }
}

function noIo(major: number, minor: number): DeviceIo {
  return { major, minor, readBytes: 0, writeBytes: 0, reads: 0, writes: 0 };
}
