// StartContainer: conmon, runc create, runc start.
import type { Rpc } from '../parts.ts';

export const startContainer: Rpc<'StartContainer'> = async (parts, { containerId }, { signal }) => {
  await parts.containers.start(containerId, signal);
  return {};
};
