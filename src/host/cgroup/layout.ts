// Where this host has its cgroup hierarchies mounted: one for each controller (v1), one for all (v2), or v1 with a
// v2 hierarchy without controllers beside it (hybrid), which still knows of pressure.
import { readFileSync } from 'node:fs';

export interface CgroupLayout {
  version: 1 | 2;
  /** Mount point of each v1 controller, by its name. Empty on v2. */
  controllers: ReadonlyMap<string, string>;
  /** Mount point of the v2 hierarchy. */
  unified: string | undefined;
  /** The kernel accounts pressure. */
  pressure: boolean;
}

/** @param root stands before each path that is read; for tests on made-up trees */
export function readCgroupLayout(root = ''): CgroupLayout {
  const layout = parseCgroupMounts(readFileSync(`${root}/proc/self/mountinfo`, 'utf8'), root);
  return { ...layout, pressure: layout.unified !== undefined && hasPressure(root) };
}

/** Finds the hierarchies in the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)). */
export function parseCgroupMounts(mountinfo: string, root = ''): Omit<CgroupLayout, 'pressure'> {
  const controllers = new Map<string, string>();
  let unified: string | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const mountPoint = before.split(' ')[4] ?? '';
    const [type, , options = ''] = after.split(' ');
    if (type === 'cgroup2') unified ??= root + mountPoint;
    if (type !== 'cgroup') continue;
    for (const option of options.split(',')) {
      if (!controllers.has(option)) controllers.set(option, root + mountPoint);
    }
  }
  // The v1 memory controller is what makes a host v1; systemd's own named hierarchy alone does not.
  return { version: controllers.has('memory') ? 1 : 2, controllers, unified };
}

function hasPressure(root: string): boolean {
  try {
    return readFileSync(`${root}/proc/pressure/memory`, 'utf8') !== '';
  } catch {
    return false; // CONFIG_PSI is off, or psi=0 on the kernel's command line
  }
}
