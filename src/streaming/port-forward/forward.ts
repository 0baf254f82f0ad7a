// One forwarded connection, whatever protocol carries it: the client's data on one side, a TCP connection to the pod on
// the other.
import type { Duplex } from 'node:stream';
import { messageOf } from '../../errors.ts';
import { copy } from '../copy.ts';

/** Opens a TCP connection to a port on the pod's localhost. Rejects with a sentence for the user. */
export type ConnectToPort = (port: number, signal: AbortSignal) => Promise<Duplex>;

export interface Forwarded {
  /** The pod's side has sent its last byte, and the client has been given it. Rejects when the connection broke. */
  readonly podEnded: Promise<void>;
  /** Both sides have. Rejects when the connection broke. */
  readonly bothEnded: Promise<void>;
}

/**
 * Connects and joins the two. Each direction is half-closed by itself, so that a client may send all, close, and still
 * be answered. Rejects when the port cannot be reached.
 */
export async function forward(
  client: Duplex,
  port: number,
  connect: ConnectToPort,
  signal: AbortSignal,
): Promise<Forwarded> {
  const pod = await connect(port, signal).catch((error: unknown) => {
    throw new Error(`port ${port} of the pod cannot be reached: ${messageOf(error)}`);
  });
  pod.on('error', () => {}); // told by the copies
  signal.addEventListener('abort', () => pod.destroy(), { once: true });
  if (signal.aborted) pod.destroy();
  const podEnded = copy(pod, client);
  const clientEnded = copy(client, pod);
  const bothEnded = Promise.all([podEnded, clientEnded]).then(() => {});
  bothEnded.catch(() => pod.destroy());
  podEnded.catch(() => {});
  return { podEnded, bothEnded };
}
