// RemoveContainer: ends the container if it runs, and removes it. Idempotent.
import type { Rpc } from '../parts.ts';

export const removeContainer: Rpc<'RemoveContainer'> = async (parts, { containerId }) => {
  await parts.containers.remove(containerId);
  return {};
};
