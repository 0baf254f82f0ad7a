// ReopenContainerLog: conmon closes its log and opens it anew, after kubelet has renamed the file.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const reopenContainerLog: Rpc<'ReopenContainerLog'> = async (parts, { containerId }) => {
  const container = parts.containers.find(containerId);
  if (container.phase !== 'running') {
    throw new CriError(
      'wrongState',
      `the log of container ${container.id} cannot be reopened: it is not running`,
    );
  }
  await parts.reopenLog(container);
  return {};
};
