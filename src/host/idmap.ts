// Mounts whose files appear under other owners: id 0 on disk is the mapped root of a user namespace there
// (mount_setattr(2), "ID-mapped mounts"). No file is changed for that.
import { closeSync, openSync, rmdirSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import koffi from 'koffi';
import { codeOf } from '../errors.ts';
import { makeDirectoriesSync } from './directories.ts';
import { check, sys } from './libc.ts';
import { makePrivateBelow, touch, unmount } from './mount.ts';

// By number, which is the same on every architecture: C libraries before 2.36 have no functions for them.
const [openTree, moveMount, mountSetattr] = [428, 429, 442];
const libc = koffi.load('libc.so.6');
const calls = {
  openTree: libc.func('syscall', 'long', ['long', 'int', 'const char *', 'unsigned int']),
  moveMount: libc.func('syscall', 'long', [
    'long',
    'int',
    'const char *',
    'int',
    'const char *',
    'unsigned int',
  ]),
  mountSetattr: libc.func('syscall', 'long', [
    'long',
    'int',
    'const char *',
    'unsigned int',
    'uint8_t *',
    'size_t',
  ]),
};

const atFdcwd = -100;
const emptyPath = 0x1000; // AT_EMPTY_PATH
const recursive = 0x8000; // AT_RECURSIVE
const cloneTree = 0x1; // OPEN_TREE_CLONE
const closeOnExec = 0o2000000; // OPEN_TREE_CLOEXEC
const fromEmptyPath = 0x4; // MOVE_MOUNT_F_EMPTY_PATH
const [readonlyAttribute, idmapAttribute] = [0x1n, 0x100000n]; // MOUNT_ATTR_RDONLY, MOUNT_ATTR_IDMAP
const attributesSize = 32; // struct mount_attr

export interface IdmapOptions {
  /** What is mounted below the source is taken along, with its owners as they are. */
  withSubmounts: boolean;
  /** Nothing can be written, or removed, by way of it. */
  readonly?: boolean;
}

/** A copy of the mount at `source`, mapped by the user namespace at `usernsPath`; mounted nowhere. Close it. */
function openIdmapped(
  source: string,
  usernsPath: string,
  { withSubmounts, readonly = false }: IdmapOptions,
): number {
  const what = `mapping the owners of ${source} by ${usernsPath}`;
  const flags = cloneTree | closeOnExec | (withSubmounts ? recursive : 0);
  const tree = check(Number(calls.openTree(openTree, atFdcwd, source, flags)), 'open_tree', what);
  const userns = openSync(usernsPath, 'r');
  try {
    const attributes = Buffer.alloc(attributesSize);
    attributes.writeBigUInt64LE(idmapAttribute | (readonly ? readonlyAttribute : 0n), 0);
    attributes.writeBigUInt64LE(BigInt(userns), 24);
    const result = calls.mountSetattr(mountSetattr, tree, '', emptyPath, attributes, attributesSize);
    check(Number(result), 'mount_setattr', what);
    return tree;
  } catch (error) {
    sys.close(tree);
    throw error;
  } finally {
    closeSync(userns);
  }
}

/**
 * Mounts `source`, a file or a directory, on `target`, which is made, with its owners mapped.
 * @throws HostError: EINVAL for a file system that cannot do it
 */
export function mountIdmapped(
  source: string,
  target: string,
  usernsPath: string,
  options: IdmapOptions,
): void {
  const tree = openIdmapped(source, usernsPath, options);
  try {
    // For root alone: what protects the source is above it, and not above its copy.
    if (statSync(source).isDirectory()) makeDirectoriesSync(target, 0o700);
    else {
      makeDirectoriesSync(dirname(target), 0o700);
      touch(target);
    }
    const result = calls.moveMount(moveMount, tree, '', atFdcwd, target, fromEmptyPath);
    check(Number(result), 'move_mount', `mounting ${source} with mapped owners on ${target}`);
  } finally {
    sys.close(tree);
  }
}

/**
 * Takes away what mountIdmapped made; never what was mounted, nor what is mounted below that, which would go along where mounts share
 * (mount_namespaces(7)). Idempotent.
 */
export function unmountIdmapped(target: string): void {
  while (makePrivateBelow(target) && unmount(target)) {
    // an attempt that was killed may have left one mount over another
  }
  try {
    if (statSync(target).isDirectory()) rmdirSync(target);
    else unlinkSync(target);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

/** Tries it on the file system of `directory`. @throws HostError */
export function tryIdmap(directory: string, usernsPath: string): void {
  sys.close(openIdmapped(directory, usernsPath, { withSubmounts: false }));
}
