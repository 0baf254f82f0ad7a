// Exec and attach over SPDY: the client opens one SPDY stream for each of stdin, stdout, stderr, error and resize, told
// apart by the header `streamtype`. Versions differ in two points: v3 brought resize, v4 the status in JSON.
import type { Duplex } from 'node:stream';
import { discard, endWith } from '../copy.ts';
import { startIdleTimer } from '../idle.ts';
import { outcomeText } from '../outcome.ts';
import { serveSpdy } from '../spdy/session.ts';
import type { SpdyStream } from '../spdy/stream.ts';
import { closingGraceMs, noSizes, type RemoteStreams, type StreamChoice, terminalSizes } from './streams.ts';

/** Values of X-Stream-Protocol-Version. */
export const spdyCommandProtocols = [
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
] as const;
export type SpdyCommandProtocol = (typeof spdyCommandProtocols)[number];

export interface SpdyCommandOptions {
  readonly protocol: SpdyCommandProtocol;
  readonly choice: StreamChoice;
  readonly idleTimeoutMs: number | undefined;
  /** How long the client may take to open the streams. */
  readonly creationTimeoutMs: number;
}

type StreamType = 'stdin' | 'stdout' | 'stderr' | 'error' | 'resize';

/** Resolves when the client has opened all it asked for. Rejects, the connection closed, when it does not in time. */
export async function acceptSpdyCommand(
  transport: Duplex,
  { protocol, choice, idleTimeoutMs, creationTimeoutMs }: SpdyCommandOptions,
): Promise<RemoteStreams> {
  const wanted = wantedStreams(protocol, choice);
  const found = new Map<StreamType, Duplex>();
  const gone = new AbortController();
  let complete = (): void => {};
  const idle = startIdleTimer(idleTimeoutMs, () => session.close());
  const session = serveSpdy(transport, {
    maxStreams: wanted.size * 2,
    onActivity: idle.touch,
    onStream(stream) {
      const type = typeOf(stream);
      if (type === undefined || !wanted.has(type) || found.has(type)) {
        stream.duplex.destroy();
        return;
      }
      found.set(type, stream.duplex);
      if (found.size === wanted.size) complete();
    },
  });
  void session.ended.then(error => {
    idle.stop();
    gone.abort(error ?? new Error('the client closed the connection'));
  });

  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      const missing = [...wanted].filter(type => !found.has(type)).join(', ');
      reject(new Error(`the client did not open its streams in time; missing: ${missing}`));
      session.close();
    }, creationTimeoutMs);
    complete = () => {
      clearTimeout(timer);
      resolve();
    };
    gone.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(gone.signal.reason);
    });
  });

  const [stdin, stdout, stderr, error, resize] = (
    ['stdin', 'stdout', 'stderr', 'error', 'resize'] as const
  ).map(type => found.get(type));
  for (const writeOnly of [stdout, stderr, error]) if (writeOnly) discard(writeOnly);
  return {
    stdin,
    stdout,
    stderr,
    sizes: resize ? terminalSizes(resize) : noSizes(),
    signal: gone.signal,
    async finish(outcome) {
      if (stdin) discard(stdin);
      await Promise.all([stdout, stderr, stdin, resize].map(stream => endWith(stream)));
      await endWith(error, outcomeText(outcome, protocol === 'v4.channel.k8s.io' ? 'status' : 'text'));
      // Clients close when they have read the last byte. Were we to close first, some would drop what they have not
      // yet handed on.
      const timer = setTimeout(() => session.close(), closingGraceMs);
      await session.ended;
      clearTimeout(timer);
    },
  };
}

function wantedStreams(protocol: SpdyCommandProtocol, choice: StreamChoice): Set<StreamType> {
  const wanted = new Set<StreamType>(['error']);
  if (choice.stdin) wanted.add('stdin');
  if (choice.stdout) wanted.add('stdout');
  if (choice.stderr && !choice.tty) wanted.add('stderr');
  const resizes = protocol === 'v4.channel.k8s.io' || protocol === 'v3.channel.k8s.io';
  if (choice.tty && resizes) wanted.add('resize');
  return wanted;
}

function typeOf({ headers }: SpdyStream): StreamType | undefined {
  const value = headers.get('streamtype')?.[0];
  return value === 'stdin' ||
    value === 'stdout' ||
    value === 'stderr' ||
    value === 'error' ||
    value === 'resize'
    ? value
    : undefined;
}
