// Exec and attach over WebSocket: channels 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize.
import type { WebSocket } from 'ws';
import { discard, endWith } from '../copy.ts';
import { startIdleTimer } from '../idle.ts';
import { outcomeText } from '../outcome.ts';
import { openChannels } from '../websocket-channels.ts';
import { closingGraceMs, noSizes, type RemoteStreams, type StreamChoice, terminalSizes } from './streams.ts';

/** Subprotocols; none at all means `channel.k8s.io`. */
export const webSocketCommandProtocols = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  'channel.k8s.io',
  'base64.channel.k8s.io',
] as const;
export type WebSocketCommandProtocol = (typeof webSocketCommandProtocols)[number];

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

export interface WebSocketCommandOptions {
  readonly protocol: WebSocketCommandProtocol;
  readonly choice: StreamChoice;
  readonly idleTimeoutMs: number | undefined;
}

export function acceptWebSocketCommand(
  socket: WebSocket,
  { protocol, choice, idleTimeoutMs }: WebSocketCommandOptions,
): RemoteStreams {
  const gone = new AbortController();
  const idle = startIdleTimer(idleTimeoutMs, () => channels.destroy());
  const channels = openChannels(socket, {
    base64: protocol.includes('base64'),
    closeSignal: protocol === 'v5.channel.k8s.io',
    onActivity: idle.touch,
  });
  void channels.ended.then(() => {
    idle.stop();
    gone.abort(new Error('the client closed the connection'));
  });
  const stdin = choice.stdin ? channels.open(channel.stdin, 'read') : undefined;
  const stdout = choice.stdout ? channels.open(channel.stdout, 'write') : undefined;
  const stderr = choice.stderr && !choice.tty ? channels.open(channel.stderr, 'write') : undefined;
  const error = channels.open(channel.error, 'write');
  channels.announce(stdout ? channel.stdout : stderr ? channel.stderr : channel.error);
  return {
    stdin,
    stdout,
    stderr,
    sizes: choice.tty ? terminalSizes(channels.open(channel.resize, 'read')) : noSizes(),
    signal: gone.signal,
    async finish(outcome) {
      if (stdin) discard(stdin);
      await Promise.all([endWith(stdout), endWith(stderr)]);
      const hasStatus = protocol.startsWith('v4') || protocol.startsWith('v5');
      await endWith(error, outcomeText(outcome, hasStatus ? 'status' : 'text'));
      await channels.close(closingGraceMs);
    },
  };
}
