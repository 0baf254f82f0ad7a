// Finds the cgroups of containers and pods, and remembers them: a path is settled once and then only read.
import type { Container } from '../container/container.ts';
import type { Cgroups } from '../host/cgroup/open.ts';
import { pathOfCgroupsPath, pathOfSlice } from '../host/cgroup/paths.ts';
import type { Cgroup } from '../host/cgroup/types.ts';
import { buildCgroupsPath } from '../oci/spec/cgroups-path.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';

export interface CgroupFinder {
  /** The cgroup of a running container; undefined when it is gone. */
  ofContainer(container: Container, sandbox: Sandbox): Cgroup | undefined;
  /** The cgroup of a pod's pause container. */
  ofPause(sandbox: Sandbox): Cgroup | undefined;
  /** The cgroup that holds the whole pod, which whoever runs the pod made; undefined when it has none of its own. */
  ofPod(sandbox: Sandbox): Cgroup | undefined;
  /** Forgets all but these ids. */
  keep(ids: ReadonlySet<string>): void;
  /** Closes the files of all; they are opened again when they are read again. */
  closeFiles(): void;
}

export function createCgroupFinder(
  cgroups: Cgroups,
  usesSystemd: (handler: string) => boolean,
): CgroupFinder {
  const known = new Map<string, Cgroup>();

  function remember(id: string, find: () => Cgroup | undefined): Cgroup | undefined {
    const found = known.get(id) ?? find();
    if (found) known.set(id, found);
    return found;
  }

  /** Where the runtime was told to put it; else, for a runtime that has a mind of its own, where its process is. */
  function find(id: string, sandbox: Sandbox, pid: number | undefined): Cgroup | undefined {
    const told = cgroups.open(pathOfCgroupsPath(cgroupsPath(id, sandbox)));
    if (told.exists()) return told;
    return pid === undefined ? undefined : cgroups.ofProcess(pid);
  }

  function cgroupsPath(id: string, { handler, config }: Sandbox): string {
    const parent = config.linux?.cgroupParent ?? '';
    return buildCgroupsPath({ subject: id, id, parent, systemd: usesSystemd(handler) });
  }

  return {
    ofContainer: (container, sandbox) =>
      remember(container.id, () => find(container.id, sandbox, container.init?.pid)),
    ofPause: sandbox => remember(`${sandbox.id}/pause`, () => find(sandbox.id, sandbox, sandbox.pause?.pid)),
    ofPod(sandbox) {
      const parent = sandbox.config.linux?.cgroupParent ?? '';
      if (parent === '' || parent === '/') return undefined;
      const path = usesSystemd(sandbox.handler) ? pathOfSlice(parent) : parent;
      return remember(sandbox.id, () => {
        const pod = cgroups.open(path);
        return pod.exists() ? pod : undefined;
      });
    },
    keep(ids) {
      for (const [id, cgroup] of known) {
        if (ids.has(id.replace('/pause', ''))) continue;
        cgroup.close();
        known.delete(id);
      }
    },
    closeFiles() {
      for (const cgroup of known.values()) cgroup.close();
    },
  };
}
