// An advisory lock on a file, held by the process until it ends: how two daemons are kept off one root.
import { closeSync, openSync } from 'node:fs';
import { check, HostError, sys } from './libc.ts';

const exclusive = 2; // LOCK_EX
const nonBlocking = 4; // LOCK_NB

export interface FileLock {
  release(): void;
}

/** Takes the lock on `path` (made when missing, 0600). Returns undefined when another process holds it. */
export function lockFile(path: string): FileLock | undefined {
  const fd = openSync(path, 'a', 0o600);
  try {
    check(sys.flock(fd, exclusive | nonBlocking), 'flock', `locking ${path}`);
  } catch (error) {
    closeSync(fd);
    if (error instanceof HostError && error.code === 'EAGAIN') return undefined;
    throw error;
  }
  return { release: () => closeSync(fd) };
}
