// The channel protocols of Kubernetes over WebSocket: each message begins with the number of its channel, as one byte
// (binary protocols) or as one digit before base64 text. v5 adds a message [255, channel] that half-closes a channel.
import { Duplex } from 'node:stream';
import { WebSocket } from 'ws';

export interface ChannelOptions {
  readonly base64: boolean;
  /** v5: the client can half-close a channel. */
  readonly closeSignal: boolean;
  /** Data moved, in either direction. */
  onActivity(): void;
}

export interface Channels {
  /**
   * A channel as a stream. What is read ends when the client closes the channel, or the connection in order. The
   * protocols have no way to tell the client of the end of what is written.
   */
  open(channel: number, use: 'read' | 'write' | 'both'): Duplex;
  /** Sends an empty message, as clients expect to see the connection established. */
  announce(channel: number): void;
  /** Resolves when the connection is over. */
  readonly ended: Promise<void>;
  /** Closes in order, and breaks off when the client does not answer within `graceMs`. */
  close(graceMs: number): Promise<void>;
  destroy(): void;
}

const closeChannel = 255;
const maxMessageBytes = 32 * 1024;
const normalClosure = 1000;
/** Also: the client goes away, and it gives no code (RFC 6455, section 7.4.1). */
const orderlyClosures = [normalClosure, 1001, 1005];

export function openChannels(
  socket: WebSocket,
  { base64, closeSignal, onActivity }: ChannelOptions,
): Channels {
  /** Open channels on which the client may send. */
  const read = new Map<number, Duplex>();
  /** Channels that hold enough: the connection is not read while there are any. */
  const full = new Set<number>();

  function decode(message: Buffer, isBinary: boolean): { channel: number; bytes: Buffer } | undefined {
    if (message.length === 0) return undefined;
    const first = message.readUInt8(0);
    if (!base64) return { channel: first, bytes: message.subarray(1) };
    if (isBinary) return undefined;
    return { channel: first - 0x30, bytes: Buffer.from(message.toString('latin1', 1), 'base64') };
  }

  function encode(channel: number, bytes: Buffer): Buffer | string {
    if (base64) return `${channel}${bytes.toString('base64')}`;
    const message = Buffer.allocUnsafe(1 + bytes.length);
    message.writeUInt8(channel, 0);
    bytes.copy(message, 1);
    return message;
  }

  function send(channel: number, bytes: Buffer, done: (error?: Error | null) => void): void {
    if (socket.readyState !== WebSocket.OPEN) {
      done(new Error('the client closed the connection'));
      return;
    }
    onActivity();
    const piece = bytes.subarray(0, maxMessageBytes);
    const rest = bytes.subarray(piece.length);
    socket.send(encode(channel, piece), error => {
      if (error || rest.length === 0) done(error);
      else send(channel, rest, done);
    });
  }

  socket.on('message', (message: Buffer, isBinary: boolean) => {
    onActivity();
    const decoded = decode(message, isBinary);
    if (!decoded) return;
    const { channel, bytes } = decoded;
    if (closeSignal && channel === closeChannel) {
      if (bytes[0] !== undefined) endChannel(bytes[0], true);
      return;
    }
    const duplex = read.get(channel);
    if (!duplex || duplex.destroyed || bytes.length === 0) return;
    if (duplex.push(bytes)) return;
    full.add(channel);
    socket.pause();
  });
  socket.on('error', () => {}); // followed by close
  const ended = new Promise<void>(resolve => {
    socket.on('close', code => {
      for (const channel of [...read.keys()]) endChannel(channel, orderlyClosures.includes(code));
      resolve();
    });
  });

  function endChannel(channel: number, inOrder: boolean): void {
    const duplex = read.get(channel);
    read.delete(channel);
    if (!duplex || duplex.destroyed) return;
    if (inOrder) duplex.push(null);
    else duplex.destroy(new Error('the connection to the client broke off'));
  }

  function freed(channel: number): void {
    full.delete(channel);
    if (full.size === 0 && socket.isPaused) socket.resume();
  }

  return {
    open(channel, use) {
      const duplex = new Duplex({
        writableHighWaterMark: maxMessageBytes,
        read: () => freed(channel),
        write: (chunk: Buffer, _encoding, done) => send(channel, chunk, done),
        destroy(error, done) {
          freed(channel);
          done(error);
        },
      });
      duplex.on('error', () => {});
      if (use === 'write') {
        duplex.push(null);
        duplex.resume();
      } else {
        read.set(channel, duplex);
      }
      return duplex;
    },
    announce(channel) {
      send(channel, Buffer.alloc(0), () => {});
    },
    ended,
    async close(graceMs) {
      if (socket.isPaused) socket.resume();
      socket.close(normalClosure);
      const timer = setTimeout(() => socket.terminate(), graceMs);
      await ended;
      clearTimeout(timer);
    },
    destroy: () => socket.terminate(),
  };
}
