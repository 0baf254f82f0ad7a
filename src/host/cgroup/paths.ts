// Paths of cgroups below the roots of the hierarchies.
import { posix } from 'node:path';
import { readText } from './files.ts';

/**
 * The path that a runtime makes of an OCI spec's `linux.cgroupsPath`: as it stands for cgroupfs, and
 * `slice:prefix:name` as a systemd scope.
 */
export function pathOfCgroupsPath(cgroupsPath: string): string {
  const [slice, prefix, name] = cgroupsPath.split(':');
  if (slice === undefined || prefix === undefined || name === undefined) return posix.join('/', cgroupsPath);
  return posix.join(pathOfSlice(slice), prefix === '' ? name : `${prefix}-${name}.scope`);
}

/** `a-b.slice` lies in `a.slice` (systemd.slice(5)); the root slice is `-.slice`. */
export function pathOfSlice(slice: string): string {
  const stem = posix.basename(slice, '.slice');
  if (stem === '' || stem === '-') return '/';
  const parts = stem.split('-');
  return posix.join('/', ...parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`));
}

/** The cgroups of a process by controller ('' = the v2 hierarchy), as /proc/PID/cgroup has them. */
export function pathsOfProcess(pid: number, root = ''): ReadonlyMap<string, string> {
  const paths = new Map<string, string>();
  for (const line of (readText(`${root}/proc/${pid}/cgroup`) ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    for (const controller of (controllers ?? '').split(',')) paths.set(controller, path);
  }
  return paths;
}
