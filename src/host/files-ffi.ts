// File system calls that node:fs lacks and that unpacking an image layer needs: device nodes, extended
// attributes, times in nanoseconds, flushing one file system. Synchronous: they are made on worker threads.
//
// Paths are strings of one byte a character (latin1), because file names are bytes and need not be UTF-8.
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import koffi from 'koffi';
import { check, HostError } from './libc.ts';

const libc = koffi.load('libc.so.6');
const calls = {
  mknod: libc.func('int mknod(const uint8_t *path, unsigned int mode, unsigned long dev)'),
  lsetxattr: libc.func(
    'int lsetxattr(const uint8_t *path, const char *name, const uint8_t *value, size_t size, int flags)',
  ),
  lgetxattr: libc.func(
    'long lgetxattr(const uint8_t *path, const char *name, _Out_ uint8_t *value, size_t size)',
  ),
  llistxattr: libc.func('long llistxattr(const uint8_t *path, _Out_ uint8_t *list, size_t size)'),
  utimensat: libc.func('int utimensat(int dirfd, const uint8_t *path, const int64_t *times, int flags)'),
  syncfs: libc.func('int syncfs(int fd)'),
  linkat: libc.func('int linkat(int fromFd, const uint8_t *from, int toFd, const uint8_t *to, int flags)'),
};

const atFdcwd = -100;
const atSymlinkNofollow = 0x100;
const atSymlinkFollow = 0x400;
const oTmpfile = 0o20000000 | constants.O_DIRECTORY; // open(2); Node has no name for it
const maxXattrBytes = 64 * 1024;

const cString = (path: string): Buffer => Buffer.from(`${path}\0`, 'latin1');

/** Makes a device node or a fifo. `mode` holds the file type (S_IFCHR, ...) and permissions, before the umask. */
export function mknod(path: string, mode: number, major: number, minor: number): void {
  check(calls.mknod(cString(path), mode, deviceNumber(major, minor)), 'mknod', `making node ${path}`);
}

/** Linux's encoding of a device number (makedev(3)). */
function deviceNumber(major: number, minor: number): bigint {
  const high = BigInt(major);
  const low = BigInt(minor);
  return (
    ((high & 0xfffff000n) << 32n) | ((high & 0xfffn) << 8n) | ((low & 0xffffff00n) << 12n) | (low & 0xffn)
  );
}

/** Opens a file without a name in `directory`, which is gone when it is closed unless `nameFile` has named it (O_TMPFILE, open(2)). */
export function openUnnamed(directory: string, mode: number): Promise<FileHandle> {
  return open(directory, oTmpfile | constants.O_WRONLY, mode);
}

/** Gives an unnamed file its name. @throws HostError EEXIST when something has that name */
export function nameFile(fd: number, path: string): void {
  const from = cString(`/proc/self/fd/${fd}`);
  check(calls.linkat(atFdcwd, from, atFdcwd, cString(path), atSymlinkFollow), 'linkat', `naming ${path}`);
}

/** Sets an extended attribute of `path` itself, also when it is a symbolic link. @throws HostError */
export function setXattr(path: string, name: string, value: Uint8Array): void {
  check(
    calls.lsetxattr(cString(path), name, value, value.length, 0),
    'lsetxattr',
    `setting attribute ${name} of ${path}`,
  );
}

/** Value of an extended attribute, or undefined when `path` has none of that name. @throws HostError */
export function getXattr(path: string, name: string): Buffer | undefined {
  try {
    return readXattr(path, name);
  } catch (error) {
    if (error instanceof HostError && (error.code === 'ENODATA' || error.code === 'EOPNOTSUPP'))
      return undefined;
    throw error;
  }
}

/** Whether the file system of `path` can hold attributes of the class of `name`, such as `user.`. @throws HostError */
export function holdsXattr(path: string, name: string): boolean {
  try {
    readXattr(path, name);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    if (error.code === 'EOPNOTSUPP') return false;
    if (error.code !== 'ENODATA') throw error;
  }
  return true;
}

function readXattr(path: string, name: string): Buffer {
  return filled(value =>
    check(
      Number(calls.lgetxattr(cString(path), name, value, value?.length ?? 0)),
      'lgetxattr',
      `reading attribute ${name} of ${path}`,
    ),
  );
}

/** Names of the extended attributes of `path` itself. @throws HostError */
export function listXattrs(path: string): string[] {
  const list = filled(value =>
    check(
      Number(calls.llistxattr(cString(path), value, value?.length ?? 0)),
      'llistxattr',
      `listing the attributes of ${path}`,
    ),
  );
  return list
    .toString('utf8')
    .split('\0')
    .filter(name => name !== '');
}

/** What `ask` fills in. Without a buffer it says how much that is: for most files nothing, which needs none. */
function filled(ask: (value: Buffer | null) => number): Buffer {
  if (ask(null) === 0) return Buffer.alloc(0);
  const value = Buffer.alloc(maxXattrBytes);
  return value.subarray(0, ask(value));
}

/** Sets access and modification time of `path` itself, in nanoseconds since 1970. @throws HostError */
export function setTimes(path: string, timeNs: bigint): void {
  const seconds = timeNs / 1_000_000_000n;
  const rest = timeNs % 1_000_000_000n;
  // Before 1970 the quotient rounds up and the rest is negative; the kernel wants 0 <= nanoseconds.
  const [whole, fraction] = rest < 0n ? [seconds - 1n, rest + 1_000_000_000n] : [seconds, rest];
  const times = new BigInt64Array([whole, fraction, whole, fraction]);
  check(
    calls.utimensat(atFdcwd, cString(path), times, atSymlinkNofollow),
    'utimensat',
    `setting the times of ${path}`,
  );
}

/** Waits until everything written to the file system of the open file `fd` is on the device. */
export function syncFileSystem(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    calls.syncfs.async(fd, (error: Error | null, result: number) => {
      if (error) reject(error);
      else if (result < 0) reject(new HostError('syncfs', 'EIO', 'flushing the file system'));
      else resolve();
    });
  });
}

/** File type bits of st_mode. */
export const fileTypes = {
  char: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
} as const;
