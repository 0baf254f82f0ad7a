// Attach: a URL at which one client may join its streams with those of a container; the streaming server serves it.
import type { Rpc } from '../parts.ts';
import { requireRunning } from '../require.ts';

export const attach: Rpc<'Attach'> = (parts, { containerId, tty, stdin, stdout, stderr }) => {
  const container = parts.containers.find(containerId);
  requireRunning(container, 'it cannot be attached to');
  return { url: parts.streaming.attachUrl({ containerId: container.id, tty, stdin, stdout, stderr }) };
};
