// UpdateContainerResources: new cgroup limits for a created or running container.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const updateContainerResources: Rpc<'UpdateContainerResources'> = async (
  parts,
  { containerId, linux },
) => {
  const container = parts.containers.find(containerId);
  if (!linux)
    throw new CriError(
      'invalidArgument',
      `UpdateContainerResources of ${container.id} names no Linux resources`,
    );
  await parts.updateResources(container, linux);
  return {};
};
