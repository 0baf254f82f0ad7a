// ContainerStats: what one container uses. One that does not run has nothing but what it has written.
import { toContainerStats } from '../convert/stats.ts';
import type { Rpc } from '../parts.ts';

export const containerStats: Rpc<'ContainerStats'> = async ({ containers, stats }, { containerId }) => {
  const container = containers.find(containerId);
  await stats.measureNewLayers();
  const [usage] = stats.ofContainers([container]);
  return usage ? { stats: toContainerStats(usage, stats) } : {};
};
