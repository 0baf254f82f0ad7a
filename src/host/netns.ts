// Network namespaces with a name: a file under /var/run/netns on which the namespace is bound, as `ip netns` has
// it, so that it lives without any process and a person can look into it with `ip netns exec`.
import { closeSync, existsSync, openSync, statfsSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectoriesSync } from './directories.ts';
import { check, HostError, sys } from './libc.ts';
import { mount, touch, unmount } from './mount.ts';

const namespaceFileSystem = 0x6e736673; // NSFS_MAGIC
const cloneNewNet = 0x40000000;
const addressFamilyInet = 2;
const datagram = 2;
const getFlags = 0x8913; // SIOCGIFFLAGS
const setFlags = 0x8914; // SIOCSIFFLAGS
const interfaceUp = 0x1; // IFF_UP
const flagsOffset = 16; // of struct ifreq's ifr_flags

/**
 * Makes a network namespace bound at `path`. Must run on a thread that no other work shares
 * (src/host/thread.ts), because the calling thread is inside the new namespace for a moment.
 * With `loopbackUp`, brings its `lo` up (the part that the loopback plugin plays when there is one).
 */
export function createNetnsHere(path: string, { loopbackUp }: { loopbackUp: boolean }): void {
  makeDirectoriesSync(dirname(path), 0o755);
  touch(path);
  inNewNamespace(() => {
    if (loopbackUp) bringLoopbackUp();
    mount({ source: '/proc/thread-self/ns/net', target: path, flags: ['bind'] });
  });
}

function inNewNamespace(work: () => void): void {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    check(sys.unshare(cloneNewNet), 'unshare', 'making a network namespace');
    try {
      work();
    } finally {
      check(sys.setns(home, cloneNewNet), 'setns', "returning to the host's network namespace");
    }
  } finally {
    closeSync(home);
  }
}

/** Runs `work` on this thread inside the namespace at `path`; same restriction as createNetnsHere. */
export function insideNetnsHere<T>(path: string, work: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  const there = openSync(path, 'r');
  try {
    check(sys.setns(there, cloneNewNet), 'setns', `entering network namespace ${path}`);
    try {
      return work();
    } finally {
      check(sys.setns(home, cloneNewNet), 'setns', "returning to the host's network namespace");
    }
  } finally {
    closeSync(there);
    closeSync(home);
  }
}

/** Brings `lo` of this thread's network namespace up. */
export function bringLoopbackUp(): void {
  const socket = check(sys.socket(addressFamilyInet, datagram, 0), 'socket', 'bringing lo up');
  try {
    const request = Buffer.alloc(40); // struct ifreq: 16 bytes of name, then a union
    request.write('lo', 0, 'latin1');
    check(sys.ioctl(socket, getFlags, request), 'ioctl SIOCGIFFLAGS', 'bringing lo up');
    request.writeUInt16LE(request.readUInt16LE(flagsOffset) | interfaceUp, flagsOffset);
    check(sys.ioctl(socket, setFlags, request), 'ioctl SIOCSIFFLAGS', 'bringing lo up');
  } finally {
    sys.close(socket);
  }
}

/**
 * Binds the network namespace of a living process at `path`, if none is bound there: what someone unmounted by hand is
 * then there again for those who must take away what was made in it.
 */
export function rebindNetns(path: string, pid: number): void {
  if (isNetnsBound(path)) return;
  makeDirectoriesSync(dirname(path), 0o755);
  touch(path);
  try {
    mount({ source: `/proc/${pid}/ns/net`, target: path, flags: ['bind'] });
  } catch (error) {
    if (!(error instanceof HostError && error.code === 'ENOENT')) throw error; // the process is just ending
  }
}

/** Unbinds the namespace and removes its name. Idempotent. The namespace ends with its last process. */
export function deleteNetns(path: string): void {
  while (unmount(path)) {
    // a name may have been bound over: take off every layer
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

/** True when a namespace is bound at `path` (and not just an empty file, as after a reboot). */
export function isNetnsBound(path: string): boolean {
  return existsSync(path) && statfsSync(path).type === namespaceFileSystem;
}
