// ListContainerStats: what every running container that passes the filter uses.
import { toContainerStats, wantsContainerStats } from '../convert/stats.ts';
import type { Rpc } from '../parts.ts';

export const listContainerStats: Rpc<'ListContainerStats'> = ({ containers, stats }, { filter }) => {
  const wanted = containers.list().filter(container => wantsContainerStats(container, filter));
  return { stats: stats.ofContainers(wanted).map(usage => toContainerStats(usage, stats)) };
};
