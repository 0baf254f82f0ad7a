// Opens cgroups for reading: of v1 or v2, by their path or by a process in them.
import { createKeptFiles } from './files.ts';
import type { CgroupLayout } from './layout.ts';
import { pathsOfProcess } from './paths.ts';
import type { Cgroup } from './types.ts';
import { openV1Cgroup } from './v1/cgroup.ts';
import { openV2Cgroup } from './v2/cgroup.ts';

export interface Cgroups {
  /** The cgroup with this path in every hierarchy. It need not exist. */
  open(path: string): Cgroup;
  /** The cgroup that a process is in; undefined when the process is gone. */
  ofProcess(pid: number): Cgroup | undefined;
}

/** Larger than any file of statistics that is read often. */
const scratchBytes = 16 * 1024;

export function createCgroups(layout: CgroupLayout): Cgroups {
  const scratch = Buffer.allocUnsafeSlow(scratchBytes);
  return {
    open: path =>
      layout.version === 1
        ? openV1Cgroup(layout, path, () => path, createKeptFiles(scratch))
        : openV2Cgroup(layout, path, createKeptFiles(scratch)),
    ofProcess(pid) {
      const paths = pathsOfProcess(pid);
      const path = paths.get(layout.version === 1 ? 'memory' : '');
      if (path === undefined) return undefined;
      const kept = createKeptFiles(scratch);
      if (layout.version === 2) return openV2Cgroup(layout, path, kept);
      return openV1Cgroup(layout, path, controller => paths.get(controller) ?? path, kept);
    },
  };
}
