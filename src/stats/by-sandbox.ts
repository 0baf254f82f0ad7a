// Containers by the pod that they are in.
import type { Container } from '../container/container.ts';

export function bySandbox(containers: readonly Container[]): ReadonlyMap<string, Container[]> {
  const groups = new Map<string, Container[]>();
  for (const container of containers) {
    const group = groups.get(container.sandboxId);
    if (group) group.push(container);
    else groups.set(container.sandboxId, [container]);
  }
  return groups;
}
