// StopContainer: the stop signal, the grace period, SIGKILL. Idempotent.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const stopContainer: Rpc<'StopContainer'> = async (parts, { containerId, timeout }, { signal }) => {
  const seconds = Number(timeout);
  if (seconds < 0) throw new CriError('invalidArgument', `timeout ${seconds} of StopContainer is negative`);
  await parts.containers.stop(containerId, seconds * 1000, signal);
  return {};
};
