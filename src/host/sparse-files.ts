// Copies of files that keep their holes: a file may state terabytes and hold nothing. Synchronous, for worker threads
// and processes.
//
// Paths are as node:fs takes them.
import { closeSync, fstatSync, ftruncateSync, openSync, type PathLike, readSync, writeSync } from 'node:fs';
import koffi from 'koffi';
import { check, HostError } from './libc.ts';

const lseek = koffi.load('libc.so.6').func('long lseek(int fd, long offset, int whence)');
const seekData = 3;
const seekHole = 4;
const chunkBytes = 1024 * 1024;

/** Copies the contents of `from` to the new file `to`, without those parts that were never written. */
export function copySparse(from: PathLike, to: PathLike): void {
  const source = openSync(from, 'r');
  try {
    const target = openSync(to, 'wx');
    try {
      const { size } = fstatSync(source);
      const chunk = Buffer.allocUnsafe(chunkBytes);
      for (let at = nextData(source, 0); at !== undefined && at < size; at = nextData(source, at)) {
        const end = seek(source, at, seekHole);
        while (at < end) {
          const read = readSync(source, chunk, 0, Math.min(chunkBytes, end - at), at);
          if (read === 0) break;
          for (let done = 0; done < read; ) done += writeSync(target, chunk, done, read - done, at + done);
          at += read;
        }
      }
      ftruncateSync(target, size);
    } finally {
      closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

/** Where contents begin at `offset` or behind it; undefined when there are none (lseek(2), SEEK_DATA). */
function nextData(fd: number, offset: number): number | undefined {
  try {
    return seek(fd, offset, seekData);
  } catch (error) {
    if (error instanceof HostError && error.code === 'ENXIO') return undefined;
    throw error;
  }
}

function seek(fd: number, offset: number, whence: number): number {
  return check(Number(lseek(fd, offset, whence)), 'lseek', 'looking for the holes of a file');
}
