// The way to a container's log. The daemon and conmon write there as root, and a container that was given the node's log
// directory may plant links in it: so below the pod's log directory no link is followed.
import { lstatSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { CriError } from '../errors.ts';
import { makeDirectoriesSync } from '../host/directories.ts';
import type { Container } from './container.ts';

type LoggedContainer = Pick<Container, 'id' | 'logPath'>;

/** Makes the directory of the log. @throws CriError wrongState when a link stands in the way */
export function makeLogDirectory(container: LoggedContainer, logDirectory: string): void {
  if (container.logPath === null) return;
  requireOwnLog(container, logDirectory);
  makeDirectoriesSync(dirname(container.logPath), 0o755);
}

/**
 * Checks that the log is a file, or will be one, which is reached through directories alone; conmon's next log too, which
 * it makes when it opens the log anew. What is not there yet is no error.
 * @throws CriError wrongState
 */
export function requireOwnLog({ id, logPath }: LoggedContainer, logDirectory: string): void {
  if (logPath === null) return;
  const refuse = (path: string, is: string) => {
    throw new CriError(
      'wrongState',
      `the log ${logPath} of container ${id} is not written: ${path} is ${is}; remove what stands there`,
    );
  };
  let directory = logDirectory;
  for (const part of ['', ...relative(logDirectory, dirname(logPath)).split('/')]) {
    directory = join(directory, part);
    const found = kindOf(directory);
    if (found !== undefined && found !== 'a directory') refuse(directory, found);
  }
  for (const path of [logPath, `${logPath}.tmp`]) {
    const found = kindOf(path);
    if (found !== undefined && found !== 'a file') refuse(path, found);
  }
}

/** What is at a path, in words; undefined when there is nothing. */
function kindOf(path: string): string | undefined {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (!status) return undefined;
  if (status.isSymbolicLink()) return 'a symbolic link';
  if (status.isDirectory()) return 'a directory';
  return status.isFile() ? 'a file' : 'neither a file nor a directory';
}
