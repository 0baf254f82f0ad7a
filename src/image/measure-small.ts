// Disk usage of small trees, measured in the daemon itself: what clients ask for every few seconds is not worth keeping
// a worker process for. Larger trees are the workers' (measure.ts).
import type { Dirent } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../errors.ts';
import type { DiskUsage } from './jobs.ts';

/** Trees of up to so many entries are walked here; larger ones are worth waking a worker process. */
const smallTree = 500;

/** As `du` counts: allocated blocks and inodes, a file of several names once. undefined when the tree is not small. */
export async function measureSmall(directory: string, limit = smallTree): Promise<DiskUsage | undefined> {
  const usage: DiskUsage = { bytes: 0, inodes: 0 };
  const seen = new Set<number>();
  const pending = [directory];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const stat = await unlessGone(lstat(at));
    if (!stat) continue;
    if (!stat.isDirectory() && stat.nlink > 1) {
      if (seen.has(stat.ino)) continue;
      seen.add(stat.ino);
    }
    usage.bytes += stat.blocks * 512;
    usage.inodes++;
    if (!stat.isDirectory()) continue;
    const entries: Dirent[] = (await unlessGone(readdir(at, { withFileTypes: true }))) ?? [];
    if (usage.inodes + pending.length + entries.length > limit) return undefined;
    for (const { name } of entries) pending.push(join(at, name));
  }
  return usage;
}

async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
