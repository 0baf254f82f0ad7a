// Advisory locks on files: how two daemons are kept off one root, and how host-local's plugins are kept from a directory.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { check, HostError, sys } from './libc.ts';

const exclusive = 2; // LOCK_EX
const nonBlocking = 4; // LOCK_NB
const setLock = 6; // F_SETLK
const writeLock = 1; // F_WRLCK

export interface FileLock {
  release(): void;
}

/** Takes the lock on `path` (made when missing, 0600). Returns undefined when another process holds it. */
export function lockFile(path: string): FileLock | undefined {
  const fd = openSync(path, 'a', 0o600);
  return isHad(fd, () => flock(fd, path)) ? { release: () => closeSync(fd) } : closed(fd);
}

/**
 * Takes the lock on `path` for as long as this process lives, and everything that it starts is on its way: a child that was
 * forked and does not execute its program yet is nothing that a successor could find, so it waits for that.
 * Returns undefined when another process holds the lock, and when what a dead one has started is not on its way in time.
 */
export async function lockForLife(path: string, patienceMs = 10_000): Promise<FileLock | undefined> {
  const fd = openSync(path, 'a', 0o600);
  // A record lock is the process's own, and ends with it (fcntl_locking(2)). A lock by flock(2) goes with the descriptor,
  // which children have until they execute.
  if (!isHad(fd, () => lockRecord(fd, path))) return closed(fd);
  const end = Date.now() + patienceMs;
  while (!isHad(fd, () => flock(fd, path))) {
    if (Date.now() > end) return closed(fd);
    await sleep(pollMs);
  }
  return { release: () => closeSync(fd) };
}

const pollMs = 10;

function closed(fd: number): undefined {
  closeSync(fd);
}

const flock = (fd: number, path: string) =>
  check(sys.flock(fd, exclusive | nonBlocking), 'flock', `locking ${path}`);

function lockRecord(fd: number, path: string): void {
  const lock = Buffer.alloc(32); // struct flock: of the whole file
  lock.writeInt16LE(writeLock, 0);
  check(sys.fcntlLock(fd, setLock, lock), 'fcntl', `locking ${path}`);
}

/** Whether the lock was free. @throws HostError for other failures, having closed the file */
function isHad(fd: number, take: () => unknown): boolean {
  try {
    take();
    return true;
  } catch (error) {
    if (error instanceof HostError && (error.code === 'EAGAIN' || error.code === 'EACCES')) return false;
    closeSync(fd);
    throw error;
  }
}
