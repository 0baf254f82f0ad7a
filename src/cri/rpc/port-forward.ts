// PortForward: a URL at which one client may open connections to ports of a pod; the streaming server serves it.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const portForward: Rpc<'PortForward'> = (parts, { podSandboxId, port: ports }) => {
  const sandbox = parts.sandboxes.find(podSandboxId);
  if (sandbox.phase !== 'ready') {
    throw new CriError('wrongState', `ports of sandbox ${sandbox.id} cannot be forwarded: it is not READY`);
  }
  const wrong = ports.find(port => port < 1 || port > 65535);
  if (wrong !== undefined)
    throw new CriError('invalidArgument', `${wrong} is not a port: 1 to 65535 is allowed`);
  return { url: parts.streaming.portForwardUrl({ sandboxId: sandbox.id, ports }) };
};
