// Reading and parsing the small files of the cgroup file systems.
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../../errors.ts';

// The cgroup or the file is not there, or went away while it was read, or the feature behind it is off.
const absent = new Set(['ENOENT', 'ENODEV', 'ENOTDIR', 'EOPNOTSUPP', 'EINVAL']);

/** The text of a file; undefined when it is not there. Synchronous: the kernel answers from memory in microseconds. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (absent.has(codeOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** Gives the text of a file; undefined when it is not there. */
export type ReadText = (path: string) => string | undefined;

/**
 * Files that are read over and over: each stays open, and is read anew from its beginning, which takes the kernel a
 * sixth of the time that opening it again does. An open file costs the kernel a page.
 */
export interface KeptFiles {
  read: ReadText;
  /** Closes all; the next reads open them again. */
  close(): void;
}

/** @param scratch what is read passes through it; a file that does not fit is read in the common way */
export function createKeptFiles(scratch: Buffer): KeptFiles {
  const descriptors = new Map<string, number>();

  function open(path: string): number {
    const descriptor = openSync(path, 'r');
    descriptors.set(path, descriptor);
    return descriptor;
  }

  function close(): void {
    for (const descriptor of descriptors.values()) closeSync(descriptor);
    descriptors.clear();
  }

  return {
    read(path) {
      try {
        const length = readSync(descriptors.get(path) ?? open(path), scratch, 0, scratch.length, 0);
        return length < scratch.length ? scratch.toString('latin1', 0, length) : readText(path);
      } catch (error) {
        if (!absent.has(codeOf(error) ?? '')) throw error;
        close(); // of a cgroup that was removed; another of its name may come
        return undefined;
      }
    },
    close,
  };
}

/** The number that a file holds; undefined when it is not there or says `max`. */
export function readNumber(path: string, read: ReadText = readText): number | undefined {
  const text = read(path);
  return text === undefined || text.startsWith('max') ? undefined : Number(text);
}

/** The number after `key` in a text of lines `key number`; undefined when there is no such line. */
export function field(text: string, key: string): number | undefined {
  let at = text.startsWith(`${key} `) ? 0 : text.indexOf(`\n${key} `) + 1;
  if (at === 0 && !text.startsWith(`${key} `)) return undefined;
  at += key.length + 1;
  const end = text.indexOf('\n', at);
  return Number(end === -1 ? text.slice(at) : text.slice(at, end));
}

/** Pids of the processes in a cgroup directory and below. */
export function processesBelow(directory: string): number[] {
  const own = (readText(join(directory, 'cgroup.procs')) ?? '').split('\n').filter(Boolean).map(Number);
  return [...own, ...childrenOf(directory).flatMap(processesBelow)];
}

function childrenOf(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(({ name }) => join(directory, name));
  } catch (error) {
    if (absent.has(codeOf(error) ?? '')) return [];
    throw error;
  }
}
