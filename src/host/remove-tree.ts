// Removes a directory with all that is in it, and never what is behind a mount in it: those are other people's files, or
// the layers of all images, and a mount may be left anywhere by a process that was killed.
import { lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { codeOf } from '../errors.ts';
import { check, HostError, sys } from './libc.ts';

const separator = Buffer.from('/');

/** Removes a file or a tree of them; what is gone is fine. @throws HostError EXDEV for a mount in it, which stays */
export function removeTree(path: string): void {
  const bytes = Buffer.from(path); // names in it are bytes, and need not be UTF-8
  unlessGone(() => remove(bytes, lstatSync(bytes).isDirectory()));
}

function remove(path: Buffer, isDirectory: boolean): void {
  if (!isDirectory) {
    unlinkSync(path);
    return;
  }
  refuseMount(path);
  for (const entry of readdirSync(path, { encoding: 'buffer', withFileTypes: true })) {
    const below = Buffer.concat([path, separator, entry.name]);
    unlessGone(() => remove(below, entry.isDirectory()));
  }
  rmdirSync(path);
}

function unlessGone(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

/** Refuses a directory that something is mounted on. @throws HostError EXDEV */
export function refuseMount(directory: string | Buffer): void {
  if (!isMountPoint(Buffer.from(directory))) return;
  const why = 'something is mounted there, which is not to be removed: unmount it and try again';
  throw new HostError('remove', 'EXDEV', `removing the directory ${directory} (${why})`);
}

// struct statx: stx_attributes at 8, stx_attributes_mask at 56
const statxBytes = 256;
const atFdcwd = -100;
const [noFollow, noAutomount] = [0x100, 0x800]; // AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT
const mountRoot = 0x2000n; // STATX_ATTR_MOUNT_ROOT

/** Also of a mount of the same file system, which the device number does not tell. */
function isMountPoint(path: Buffer): boolean {
  const result = Buffer.alloc(statxBytes);
  const name = Buffer.concat([path, Buffer.of(0)]);
  check(sys.statx(atFdcwd, name, noFollow | noAutomount, 0, result), 'statx', `looking at ${path}`);
  if ((result.readBigUInt64LE(56) & mountRoot) !== 0n) return (result.readBigUInt64LE(8) & mountRoot) !== 0n;
  // Before Linux 5.8.
  return lstatSync(path).dev !== lstatSync(Buffer.concat([path, Buffer.from('/..')])).dev;
}
