// Everything spec building reads from the host for one container, behind one interface: the builders stay
// free of side effects, and tests answer from a table. `hostLookups` answers from the real host.
import { lstat, readdir, readFile, realpath } from 'node:fs/promises';
import path from 'node:path';
import { codeOf } from '../../errors.ts';
import { deviceNumbers } from '../../host/device-numbers.ts';
import { readTextInRoot } from './in-root.ts';
import { type MountInfo, parseMountInfo } from './mountinfo.ts';
import type { Device } from './types.ts';

export interface SpecLookups {
  /** The path with all symbolic links followed; undefined when nothing is there. */
  realPath(hostPath: string): Promise<string | undefined>;
  /** Whole text of a host file; undefined when there is none. */
  readText(hostPath: string): Promise<string | undefined>;
  /** Whole text of a file in a root filesystem, links kept inside it; undefined when there is none. */
  readInRoot(root: string, inside: string): Promise<string | undefined>;
  /** The device node at a host path, or all below a directory; undefined when it is neither. */
  devices(hostPath: string): Promise<Device[] | undefined>;
  /** The mount table at this moment. */
  mounts(): Promise<MountInfo[]>;
}

export const hostLookups: SpecLookups = {
  realPath: hostPath => absentAsUndefined(realpath(hostPath)),
  readText: hostPath => absentAsUndefined(readFile(hostPath, 'utf8')),
  readInRoot: readTextInRoot,
  devices: findDevices,
  mounts: async () => parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8')),
};

async function absentAsUndefined<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

/** Below /dev, but not devices that may be handed on: file systems of their own, and the console runtimes make anew. */
const notHandedOn = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', '.lxc', '.lxd-mounts', '.udev']);

async function findDevices(hostPath: string): Promise<Device[] | undefined> {
  const status = await absentAsUndefined(lstat(hostPath));
  if (status === undefined) return undefined;
  if (!status.isDirectory()) {
    const device = await deviceAt(hostPath);
    return device === undefined ? undefined : [device];
  }
  const found: Device[] = [];
  for (const entry of await readdir(hostPath, { withFileTypes: true })) {
    if (notHandedOn.has(entry.name)) continue;
    const child = path.join(hostPath, entry.name);
    if (entry.isDirectory()) found.push(...((await findDevices(child)) ?? []));
    else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
      const device = await deviceAt(child);
      if (device !== undefined) found.push(device);
    }
  }
  return found;
}

async function deviceAt(hostPath: string): Promise<Device | undefined> {
  const status = await absentAsUndefined(lstat(hostPath, { bigint: true }));
  if (status === undefined) return undefined;
  const type = status.isCharacterDevice()
    ? 'c'
    : status.isBlockDevice()
      ? 'b'
      : status.isFIFO()
        ? 'p'
        : undefined;
  if (type === undefined) return undefined;
  return {
    type,
    path: hostPath,
    ...deviceNumbers(status.rdev),
    fileMode: Number(status.mode & 0o7777n),
    uid: Number(status.uid),
    gid: Number(status.gid),
  };
}
