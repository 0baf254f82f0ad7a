// Names of block devices.
import { readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

/** `/dev/sda` for 8:0; the numbers themselves where the kernel has no name for them. */
export function blockDeviceName(major: number, minor: number): string {
  try {
    return `/dev/${basename(readlinkSync(`/sys/dev/block/${major}:${minor}`))}`;
  } catch {
    return `${major}:${minor}`;
  }
}

/** The source of the mount that `path` (absolute, no links) lies on: a device, or the kind of a file system without. */
export function deviceOfPath(path: string, mounts = readFileSync('/proc/self/mounts', 'utf8')): string {
  let found = { source: '', mountPoint: '' };
  for (const line of mounts.split('\n')) {
    const [source = '', mountPoint = ''] = line.split(' ');
    const holds = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (holds && mountPoint.length >= found.mountPoint.length) found = { source, mountPoint };
  }
  return found.source;
}
