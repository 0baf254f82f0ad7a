// Takes a cgroup away, with whatever is still in it. The OCI runtime does so itself when it deletes a container; this is
// for one that was killed before it had written down that it had made a cgroup.
import { readdirSync, rmdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../../errors.ts';
import { identify, signalProcess } from '../process-watch.ts';
import { processesBelow } from './files.ts';
import type { CgroupLayout } from './layout.ts';

const sigkill = 9;
const retryMs = 10;
const patienceMs = 10_000;

/**
 * Kills the processes in the cgroup and below, and removes it from every hierarchy. Idempotent.
 * @param path below the roots of the hierarchies, never a root itself
 * @throws the system's EBUSY when `signal` aborts while processes are still ending
 */
export async function removeCgroup(
  layout: CgroupLayout,
  path: string,
  signal = AbortSignal.timeout(patienceMs),
): Promise<void> {
  if (posix.join('/', path) === '/') throw new Error('the root of the cgroups is not to be removed');
  const roots = new Set([...layout.controllers.values(), ...(layout.unified ? [layout.unified] : [])]);
  for (const root of roots) await removeTree(join(root, path), signal);
}

async function removeTree(directory: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    for (const pid of processesBelow(directory)) {
      const process = identify(pid);
      if (process) signalProcess(process, sigkill);
    }
    try {
      removeDirectories(directory);
      return;
    } catch (error) {
      if (codeOf(error) !== 'EBUSY' || signal.aborted) throw error;
    }
    await sleep(retryMs); // a killed process leaves its cgroup a little later
  }
}

function removeDirectories(directory: string): void {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) removeDirectories(join(directory, entry.name));
    }
    rmdirSync(directory);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}
