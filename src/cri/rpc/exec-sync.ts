// ExecSync: one command in a running container, its output and exit code.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const execSync: Rpc<'ExecSync'> = async (parts, { containerId, cmd, timeout }, { signal }) => {
  const container = parts.containers.find(containerId);
  if (cmd.length === 0)
    throw new CriError('invalidArgument', `ExecSync in container ${container.id} names no command`);
  const seconds = Number(timeout);
  if (seconds < 0) throw new CriError('invalidArgument', `timeout ${seconds} of ExecSync is negative`);
  if (container.phase !== 'running') {
    throw new CriError('wrongState', `no command can be run in container ${container.id}: it is not running`);
  }
  return parts.execSync(container, { command: cmd, timeoutMs: seconds * 1000 }, signal);
};
