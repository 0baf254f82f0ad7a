// Removes small trees, such as the writable layers of most containers, in the daemon itself: to wake a worker process for
// them takes longer than the work, and the worker would stay. Larger trees are the workers'.
import { lstatSync, opendirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../errors.ts';
import { refuseMount } from '../host/remove-tree.ts';

/** What is removed at once; more would keep other requests waiting. */
const smallTree = { entries: 100, bytes: 4 * 1024 * 1024 };
/** What a name that is not UTF-8 has in place of its bytes. */
const replaced = '\ufffd';

/**
 * Removes the tree if it is small; one that is gone is fine. False when it is not small: part of it may be left.
 * @throws HostError EXDEV for a mount in it, which stays
 */
export function removeSmall(directory: string, limit = smallTree): boolean {
  let { entries, bytes } = limit;

  /** undefined when it would be too much. */
  function contentOf(path: string): { name: string; isDirectory: boolean }[] | undefined {
    const content: { name: string; isDirectory: boolean }[] = [];
    const opened = opendirSync(path);
    try {
      for (let entry = opened.readSync(); entry; entry = opened.readSync()) {
        const isDirectory = entry.isDirectory();
        if (!isDirectory) bytes -= lstatSync(join(path, entry.name), { throwIfNoEntry: false })?.size ?? 0;
        if (--entries < 0 || bytes < 0 || entry.name.includes(replaced)) return undefined;
        content.push({ name: entry.name, isDirectory });
      }
      return content;
    } finally {
      opened.closeSync();
    }
  }

  function remove(path: string): boolean {
    refuseMount(path);
    const content = contentOf(path);
    if (!content) return false;
    for (const { name, isDirectory } of content) {
      if (!isDirectory) unlinkSync(join(path, name));
      else if (!remove(join(path, name))) return false;
    }
    rmdirSync(path);
    return true;
  }

  try {
    return remove(directory);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true;
    throw error;
  }
}
