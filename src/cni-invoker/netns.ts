// Whether a path still leads to a network namespace. A namespace that was unmounted leaves an ordinary file behind,
// and plugins fail on it instead of treating it as gone.
import { statfsSync } from 'node:fs';

// linux/magic.h. Kernels before 3.19 showed namespaces as proc files.
const namespaceFileSystems = [0x6e736673, 0x9fa0];

/** True when a network namespace can be entered at `path`. */
export function isLiveNetns(path: string): boolean {
  try {
    return namespaceFileSystems.includes(statfsSync(path).type);
  } catch {
    return false; // Absent or not reachable: gone for every plugin as well.
  }
}

/** The path for CNI_NETNS of a DEL: empty, as the specification allows there, when the namespace is gone. */
export function netnsForDel(path: string): string {
  // What is no path may be another kind of isolation domain, which its plugins know.
  if (!path.startsWith('/')) return path;
  return isLiveNetns(path) ? path : '';
}
