// Port-forward over WebSocket channels (`v4.channel.k8s.io`): the ports come with the request; port number i has channel
// 2i for data and 2i+1 for errors, and the server opens each with the port as two bytes, little-endian. One connection
// a port; the protocol knows no half-close, and no end of one port before the others.
import type { WebSocket } from 'ws';
import { messageOf } from '../../errors.ts';
import { endWith } from '../copy.ts';
import { startIdleTimer } from '../idle.ts';
import { openChannels } from '../websocket-channels.ts';
import { forward } from './forward.ts';
import type { PortForwardOptions } from './spdy.ts';

export const webSocketPortProtocols = ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io'] as const;
export type WebSocketPortProtocol = (typeof webSocketPortProtocols)[number];

/** How long a client may take to close its end of a finished connection, in milliseconds. */
const closingGraceMs = 10_000;

/** Serves until every port's connection has ended, or the client closes. */
export async function servePortForwardWebSocket(
  socket: WebSocket,
  protocol: WebSocketPortProtocol,
  ports: readonly number[],
  { connect, log, idleTimeoutMs }: PortForwardOptions,
): Promise<void> {
  const gone = new AbortController();
  const idle = startIdleTimer(idleTimeoutMs, () => channels.destroy());
  const channels = openChannels(socket, {
    base64: protocol.includes('base64'),
    closeSignal: false,
    onActivity: idle.touch,
  });
  void channels.ended.then(() => {
    idle.stop();
    // What the client sent before it closed still goes to the pod; a pod that does not end then is left.
    setTimeout(() => gone.abort(new Error('the client closed the connection')), closingGraceMs).unref();
  });

  async function serve(port: number, index: number): Promise<void> {
    const data = channels.open(2 * index, 'both');
    const error = channels.open(2 * index + 1, 'write');
    const prefix = Buffer.alloc(2);
    prefix.writeUInt16LE(port, 0);
    data.write(prefix);
    error.write(prefix);
    try {
      const { podEnded, bothEnded } = await forward(data, port, connect, gone.signal);
      await Promise.race([podEnded, bothEnded]); // what the pod closed, the client cannot be told
    } catch (thrown) {
      log.debug({ port }, messageOf(thrown));
      await endWith(error, messageOf(thrown));
    }
    data.destroy();
  }

  await Promise.all(ports.map(serve));
  await channels.close(closingGraceMs);
}
