import { expect, it } from 'vitest';
import type { Container } from '../../../src/container/container.ts';
import { createOomKills } from '../../../src/container/oom-kills.ts';
import type { Cgroup } from '../../../src/host/cgroup/types.ts';

/** Pods whose cgroups count kills as the kernel does: a pod's count has those of cgroups that are gone. */
function makeNode(killsBefore: Record<string, number> = {}) {
  const pods = new Map(Object.entries(killsBefore));
  const living = new Map<Container, number>();
  const countOf = (count: () => number | undefined, path: string) =>
    ({ path, oomKillsBelow: count }) as Cgroup;
  const kills = createOomKills({
    cgroup: container => (living.has(container) ? countOf(() => living.get(container), '') : undefined),
    podCgroup: ({ sandboxId }) =>
      sandboxId === '' ? undefined : countOf(() => pods.get(sandboxId), sandboxId),
    running: () => [...living.keys()],
  });
  return {
    start(sandboxId: string): Container {
      const container = { sandboxId } as Container;
      if (!pods.has(sandboxId)) pods.set(sandboxId, 0);
      kills.begins(container);
      living.set(container, 0);
      return container;
    },
    kill(container: Container, processes = 1) {
      living.set(container, (living.get(container) ?? 0) + processes);
      pods.set(container.sandboxId, (pods.get(container.sandboxId) ?? 0) + processes);
    },
    end(container: Container): boolean {
      living.delete(container);
      return kills.ends(container);
    },
    forgetPod: (id: string) => pods.delete(id),
  };
}

it('a container whose cgroup is gone was killed when its pod has one kill more', () => {
  const node = makeNode();
  const [first, second] = [node.start('pod'), node.start('pod')];
  node.kill(first, 3);
  expect([node.end(first), node.end(second)]).toEqual([true, false]);
});

it('kills of neighbours, of those that run and of those that have ended, are not its own', () => {
  const node = makeNode();
  const earlier = node.start('pod');
  node.kill(earlier);
  expect(node.end(earlier)).toBe(true);

  const [runs, asked, stranger] = [node.start('pod'), node.start('pod'), node.start('other pod')];
  node.kill(runs, 2);
  node.kill(stranger);
  expect(node.end(asked)).toBe(false);
  expect(node.end(runs)).toBe(true);
  expect(node.end(stranger)).toBe(true);
});

it('kills from before the daemon knew of the pod are no container’s', () => {
  const node = makeNode({ pod: 5 });
  const container = node.start('pod');
  expect(node.end(container)).toBe(false);
  node.kill(container);
  expect(node.end(container)).toBe(false); // of whom nobody has told that it began again
  const next = node.start('pod');
  node.kill(next);
  expect(node.end(next)).toBe(true);
});

it('a pod without a cgroup of its own, and one whose cgroup is gone, tells nothing', () => {
  const node = makeNode();
  const [without, gone] = [node.start(''), node.start('pod')];
  node.kill(without);
  node.kill(gone);
  node.forgetPod('pod');
  expect([node.end(without), node.end(gone)]).toEqual([false, false]);
});
