// Disk usage of a tree, counted as `du` does: allocated blocks and inodes, a file of several names once.
import { lstatSync, readdirSync } from 'node:fs';
import type { DiskUsage } from './jobs.ts';
import { fsPath } from './unpack.ts';

/** Usage of `path` and all below it; zero when it is gone. Follows no link. Runs in a worker process. */
export function measureTree(path: string): DiskUsage {
  const usage: DiskUsage = { bytes: 0, inodes: 0 };
  const seen = new Set<number>();
  const pending = [Buffer.from(path).toString('latin1')];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const stat = lstatSync(fsPath(at), { throwIfNoEntry: false });
    if (stat === undefined) continue; // removed while counting
    if (!stat.isDirectory() && stat.nlink > 1) {
      if (seen.has(stat.ino)) continue;
      seen.add(stat.ino);
    }
    usage.bytes += stat.blocks * 512;
    usage.inodes++;
    if (!stat.isDirectory()) continue;
    for (const name of readdirSync(fsPath(at), 'latin1')) pending.push(`${at}/${name}`);
  }
  return usage;
}
