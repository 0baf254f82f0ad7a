// CheckpointContainer: writes the state of a running container to an archive on the node; the container goes on.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

const longestTimerMs = 2 ** 31 - 1;

export const checkpointContainer: Rpc<'CheckpointContainer'> = async (
  parts,
  { containerId, location, timeout },
  { signal },
) => {
  const container = parts.containers.find(containerId);
  if (location === '')
    throw new CriError('invalidArgument', `CheckpointContainer of ${container.id} names no location`);
  const seconds = Number(timeout);
  const bound = seconds > 0 ? AbortSignal.timeout(Math.min(seconds * 1000, longestTimerMs)) : undefined;
  try {
    await parts.checkpoint(container, location, bound ? AbortSignal.any([signal, bound]) : signal);
  } catch (error) {
    if (!bound?.aborted) throw error;
    throw new CriError(
      'deadlineExceeded',
      `container ${container.id} was not checkpointed within ${seconds} s; it goes on as before`,
      { cause: error },
    );
  }
  return {};
};
