// Exec: a URL at which one client may run one command with streams; the streaming server serves it.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';
import { requireRunning } from '../require.ts';

export const exec: Rpc<'Exec'> = (parts, { containerId, cmd, tty, stdin, stdout, stderr }) => {
  const container = parts.containers.find(containerId);
  if (cmd.length === 0)
    throw new CriError('invalidArgument', `Exec in container ${container.id} names no command`);
  requireRunning(container, 'no command can be run in it');
  const url = parts.streaming.execUrl({
    containerId: container.id,
    command: cmd,
    tty,
    stdin,
    stdout,
    stderr,
  });
  return { url };
};
