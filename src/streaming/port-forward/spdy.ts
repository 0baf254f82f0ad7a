// Port-forward over SPDY (`portforward.k8s.io`): for each connection the client opens a pair of streams, `data` and
// `error`, with the port and a request id in their headers. Any number of connections share the session.
import type { Duplex } from 'node:stream';
import { messageOf } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { discard, endWith } from '../copy.ts';
import { startIdleTimer } from '../idle.ts';
import { serveSpdy } from '../spdy/session.ts';
import type { SpdyStream } from '../spdy/stream.ts';
import { type ConnectToPort, forward } from './forward.ts';

export const portForwardProtocol = 'portforward.k8s.io';

export interface PortForwardOptions {
  readonly connect: ConnectToPort;
  readonly log: Logger;
  readonly idleTimeoutMs: number | undefined;
  /** How long the second stream of a pair may take to follow the first. */
  readonly creationTimeoutMs: number;
}

/** Two a connection. */
const maxStreams = 4096;

interface Pair {
  readonly port: number;
  data?: Duplex;
  error?: Duplex;
  readonly timer: NodeJS.Timeout;
}

/** Serves until the client closes the connection. */
export async function servePortForwardSpdy(
  transport: Duplex,
  { connect, log, idleTimeoutMs, creationTimeoutMs }: PortForwardOptions,
): Promise<void> {
  /** Pairs of which one stream is missing, by request id. */
  const incomplete = new Map<string, Pair>();
  const gone = new AbortController();

  function onStream(stream: SpdyStream): void {
    const wish = readWish(stream);
    if (!wish) {
      stream.duplex.destroy();
      return;
    }
    const { requestId, port, type } = wish;
    const pair = incomplete.get(requestId) ?? {
      port,
      timer: setTimeout(giveUp, creationTimeoutMs, requestId),
    };
    if (pair[type] || pair.port !== port) {
      stream.duplex.destroy();
      return;
    }
    pair[type] = stream.duplex;
    incomplete.set(requestId, pair);
    if (!pair.data || !pair.error) return;
    incomplete.delete(requestId);
    clearTimeout(pair.timer);
    void serve(pair.data, pair.error, port);
  }

  function giveUp(requestId: string): void {
    const pair = incomplete.get(requestId);
    incomplete.delete(requestId);
    pair?.data?.destroy();
    void endWith(pair?.error, `forwarding of port ${pair?.port}: the client opened no data stream in time`);
  }

  async function serve(data: Duplex, error: Duplex, port: number): Promise<void> {
    discard(error); // clients half-close it at once
    try {
      const { podEnded, bothEnded } = await forward(data, port, connect, gone.signal);
      await podEnded;
      // kubectl closes its side only once it has seen the end of the error stream, so that must not wait for it.
      await endWith(error);
      await bothEnded;
    } catch (thrown) {
      if (!gone.signal.aborted) log.debug({ port }, messageOf(thrown));
      await endWith(error, messageOf(thrown));
      data.destroy();
    }
  }

  const idle = startIdleTimer(idleTimeoutMs, () => session.close());
  const session = serveSpdy(transport, { maxStreams, onActivity: idle.touch, onStream });
  await session.ended;
  idle.stop();
  for (const { timer } of incomplete.values()) clearTimeout(timer);
  gone.abort(new Error('the client closed the connection'));
}

interface Wish {
  readonly requestId: string;
  readonly port: number;
  readonly type: 'data' | 'error';
}

function readWish({ id, headers }: SpdyStream): Wish | undefined {
  const type = headers.get('streamtype')?.[0];
  const port = Number(headers.get('port')?.[0]);
  if (type !== 'data' && type !== 'error') return undefined;
  if (!Number.isInteger(port) || port < 1 || port > 65535) return undefined;
  // Clients of before Kubernetes 1.3 give no id: they open the error stream, then the data stream.
  const requestId = headers.get('requestid')?.[0] ?? `of stream ${type === 'error' ? id : id - 2}`;
  return { requestId, port, type };
}
