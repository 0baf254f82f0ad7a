// Directories with those that lead to them, as `mkdir -p` makes them. Node's own `recursive` tells any failure, a full disk
// too, as ENOENT.
import { mkdirSync, statSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from '../errors.ts';

/** A directory that is there already stays as it is. @throws what mkdir(2) says */
export async function makeDirectories(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, mode);
  } catch (error) {
    if (codeOf(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (codeOf(error) !== 'ENOENT') throw error;
    await makeDirectories(dirname(path), mode);
    await mkdir(path, mode).catch(againstOthers);
  }
}

/** As makeDirectories, at once. */
export function makeDirectoriesSync(path: string, mode: number): void {
  try {
    mkdirSync(path, mode);
  } catch (error) {
    if (codeOf(error) === 'EEXIST' && statSync(path).isDirectory()) return;
    if (codeOf(error) !== 'ENOENT') throw error;
    makeDirectoriesSync(dirname(path), mode);
    mkdirSync(path, mode);
  }
}

/** Another call may have made it meanwhile. */
function againstOthers(error: unknown): void {
  if (codeOf(error) !== 'EEXIST') throw error;
}
