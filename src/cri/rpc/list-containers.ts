// ListContainers: every container that passes the filter.
import { matchesContainer, toContainer } from '../convert/container.ts';
import type { Rpc } from '../parts.ts';

export const listContainers: Rpc<'ListContainers'> = (parts, { filter }) => ({
  containers: parts.containers
    .list()
    .filter(container => matchesContainer(container, filter))
    .map(toContainer),
});
