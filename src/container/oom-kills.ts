// Tells of OOM kills that conmon has missed. conmon reads a container's memory.events when the kernel says that they have changed;
// but systemd removes a cgroup once it is empty, which memory.oom.group makes it at once, and may come first. The pod's cgroup
// stays, and counts the kills of every cgroup below it, those that are gone too (the kernel's cgroup-v2.rst, memory.events).
import type { Cgroup } from '../host/cgroup/types.ts';
import type { Container } from './container.ts';

export interface OomKills {
  /** The container may be killed from now on. */
  begins(container: Container): void;
  /** The container, which no longer counts as running, has ended: whether the OOM killer had killed a process of it. */
  ends(container: Container): boolean;
}

export interface OomKillsOptions {
  /** The cgroup of a running container; undefined when it is gone. */
  cgroup(container: Container): Cgroup | undefined;
  /** The cgroup that holds its pod and nothing else; undefined when the pod has none. */
  podCgroup(container: Container): Cgroup | undefined;
  running(): Container[];
}

export function createOomKills({ cgroup, podCgroup, running }: OomKillsOptions): OomKills {
  /** Kills in cgroups that are gone, by the path of the pod's cgroup, as they were when a container of it last began or ended. */
  const seen = new Map<string, number>();

  /** The pod's kills without those of the containers that run. */
  function killsOfEnded(pod: Cgroup, neighbours: readonly Container[]): number | undefined {
    const ofRunning = neighbours.reduce(
      (sum, container) => sum + (cgroup(container)?.oomKillsBelow() ?? 0),
      0,
    );
    const all = pod.oomKillsBelow();
    return all === undefined ? undefined : all - ofRunning;
  }

  const neighbours = (pod: Cgroup, container: Container) =>
    running().filter(other => other !== container && podCgroup(other)?.path === pod.path);

  return {
    begins(container) {
      const pod = podCgroup(container);
      if (!pod || seen.has(pod.path)) return;
      const kills = killsOfEnded(pod, [container, ...neighbours(pod, container)]);
      if (kills !== undefined) seen.set(pod.path, kills);
    },
    ends(container) {
      const pod = podCgroup(container);
      const before = pod && seen.get(pod.path);
      if (!pod || before === undefined) return false;
      const others = neighbours(pod, container);
      const now = killsOfEnded(pod, others) ?? before;
      if (others.length > 0) seen.set(pod.path, now);
      else seen.delete(pod.path);
      return now > before;
    },
  };
}
