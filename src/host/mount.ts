// Mounts: made and taken away by system call, without a helper process. Taking away is idempotent, because
// undo runs after crashes and may find the work done.
import { closeSync, openSync } from 'node:fs';
import { check, HostError, sys } from './libc.ts';

/** Flags of mount(2), by the names that mount(8) prints. */
export const mountFlags = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  remount: 0x20,
  noatime: 0x400,
  bind: 0x1000,
  rec: 0x4000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
} as const;
export type MountFlag = keyof typeof mountFlags;

const detach = 2; // MNT_DETACH
const noFollow = 8; // UMOUNT_NOFOLLOW

export interface MountRequest {
  source: string;
  target: string;
  /** File system type; empty for a bind mount or a change of flags. */
  type?: string;
  flags?: readonly MountFlag[];
  /** The file system's own options, comma separated. At most one page less a byte. */
  data?: string;
}

/** Makes one mount. @throws HostError naming source and target. */
export function mount({ source, target, type, flags = [], data }: MountRequest): void {
  const bits = flags.reduce((sum, flag) => sum | mountFlags[flag], 0);
  const result = sys.mount(source, target, type ?? null, bits, data ?? null);
  check(result, 'mount', `mounting ${type ?? 'bind'} ${source} on ${target}`);
}

/**
 * Takes the topmost mount off `target`, lazily: it leaves the tree at once, and the kernel ends it when its
 * last user has gone. Resolves to false when nothing was mounted there.
 */
export function unmount(target: string): boolean {
  if (sys.umount2(target, detach | noFollow) === 0) return true;
  try {
    check(-1, 'umount2', `unmounting ${target}`);
  } catch (error) {
    if (error instanceof HostError && (error.code === 'EINVAL' || error.code === 'ENOENT')) return false;
    throw error;
  }
  return false;
}

/** Puts the process's mount of `path` beyond reach of propagation from and to elsewhere. */
export function makePrivate(path: string): void {
  mount({ source: 'none', target: path, flags: ['private'] });
}

/** The same for the mount at `path` and all below it. False when nothing is mounted there. */
export function makePrivateBelow(path: string): boolean {
  try {
    mount({ source: 'none', target: path, flags: ['private', 'rec'] });
    return true;
  } catch (error) {
    if (error instanceof HostError && (error.code === 'EINVAL' || error.code === 'ENOENT')) return false;
    throw error;
  }
}

/** Creates an empty file to bind a namespace or a file on; existing is fine. */
export function touch(path: string): void {
  closeSync(openSync(path, 'a', 0o444));
}
