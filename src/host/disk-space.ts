// Whether a file system has room: programs that fail for want of it do not always say so.
import { statfsSync } from 'node:fs';
import { codeOf } from '../errors.ts';

const littleBytes = 1024 * 1024;
const fewFiles = 100;

/** In words, that the file system of a directory is nearly full; undefined when it is not, or the directory is gone. */
export function nearlyFull(directory: string): string | undefined {
  try {
    const { bsize, bavail, files, ffree } = statfsSync(directory);
    // Some file systems have no fixed number of files, and tell none.
    if (bavail * bsize >= littleBytes && (files === 0 || ffree >= fewFiles)) return undefined;
    return `the file system of ${directory} is nearly full: ${bavail * bsize} bytes and ${ffree} files are left`;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
