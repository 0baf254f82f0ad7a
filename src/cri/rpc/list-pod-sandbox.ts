// ListPodSandbox: every sandbox that passes the filter.
import { matchesSandbox, toPodSandbox } from '../convert/sandbox.ts';
import type { Rpc } from '../parts.ts';

export const listPodSandbox: Rpc<'ListPodSandbox'> = (parts, { filter }) => ({
  items: parts.sandboxes
    .list()
    .filter(sandbox => matchesSandbox(sandbox, filter))
    .map(toPodSandbox),
});
