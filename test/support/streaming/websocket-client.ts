// A WebSocket client written from RFC 6455, sharing nothing with the server: frames, masking, ping and close. Also as a
// byte stream, for protocols that are tunnelled through binary messages.
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { Duplex } from 'node:stream';
import { requestUpgrade, type UpgradeOptions } from './http-upgrade.ts';

export interface Message {
  binary: boolean;
  bytes: Buffer;
}

export interface WebSocketClient {
  readonly messages: Message[];
  /** Status code of the server's close frame; undefined while it has not closed, or broke off. */
  closeCode: number | undefined;
  send(bytes: Buffer | string): Promise<void>;
  ping(): Promise<void>;
  /** Stops reading. */
  pause(): void;
  resume(): void;
  close(): void;
  destroy(): void;
  readonly closed: Promise<void>;
  /** The bytes that came on a binary channel so far, in order. */
  channel(number: number): Buffer;
  /** Resolves when the text of a channel fits. */
  until(number: number, fits: (text: string) => boolean): Promise<string>;
  /** Called with each message instead of keeping it. */
  onMessage(handler: (message: Message) => void): void;
  asByteStream(): Duplex;
}

const magic = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

export async function connectWebSocket(
  url: string,
  protocols: string[],
  options: Partial<UpgradeOptions> = {},
) {
  const key = randomBytes(16).toString('base64');
  const answer = await requestUpgrade(url, {
    method: options.method ?? 'GET',
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    headers: {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': key,
      ...(protocols.length === 0 ? {} : { 'Sec-WebSocket-Protocol': protocols.join(', ') }),
      ...options.headers,
    },
  });
  if (answer.socket) {
    const expected = createHash('sha1')
      .update(key + magic)
      .digest('base64');
    if (answer.headers['sec-websocket-accept'] !== expected)
      throw new Error('the server did not accept the key');
  }
  return { ...answer, client: answer.socket && speakWebSocket(answer.socket) };
}

const opcodes = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

function speakWebSocket(socket: Duplex): WebSocketClient {
  const events = new EventEmitter();
  const messages: Message[] = [];
  let handler = (message: Message): void => {
    messages.push(message);
  };
  let fragments: Message | undefined;

  function frame(opcode: number, payload: Buffer): Promise<void> {
    const { length } = payload;
    const head =
      length < 126
        ? Buffer.from([0x80 | opcode, 0x80 | length])
        : length < 65536
          ? Buffer.from([0x80 | opcode, 0x80 | 126, length >> 8, length & 0xff])
          : Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | 127, 0, 0, 0, 0]), uint32(length)]);
    const mask = randomBytes(4);
    const masked = Buffer.from(payload);
    for (let i = 0; i < length; i++) masked[i] = (masked[i] ?? 0) ^ (mask[i % 4] ?? 0);
    return new Promise((resolve, reject) => {
      socket.write(Buffer.concat([head, mask, masked]), error => (error ? reject(error) : resolve()));
    });
  }

  function onFrame(opcode: number, fin: boolean, payload: Buffer): void {
    if (opcode === opcodes.ping) void frame(opcodes.pong, payload).catch(() => {});
    else if (opcode === opcodes.pong) events.emit('pong');
    else if (opcode === opcodes.close) {
      client.closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      frame(opcodes.close, payload).catch(() => {});
      socket.end();
    } else {
      fragments ??= { binary: opcode === opcodes.binary, bytes: Buffer.alloc(0) };
      fragments.bytes = fragments.bytes.length > 0 ? Buffer.concat([fragments.bytes, payload]) : payload;
      if (!fin) return;
      const message = fragments;
      fragments = undefined;
      handler(message);
      events.emit('message');
    }
  }

  let held: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    held = held.length > 0 ? Buffer.concat([held, chunk]) : chunk;
    for (;;) {
      if (held.length < 2) return;
      const [first, short] = [held.readUInt8(0), held.readUInt8(1) & 0x7f];
      const start = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (held.length < start) return;
      const length =
        short === 127 ? Number(held.readBigUInt64BE(2)) : short === 126 ? held.readUInt16BE(2) : short;
      if (held.length < start + length) return;
      const payload = held.subarray(start, start + length);
      held = held.subarray(start + length);
      onFrame(first & 0x0f, (first & 0x80) !== 0, Buffer.from(payload));
    }
  });
  const closed = once(socket, 'close').then(() => void events.emit('message'));

  const client: WebSocketClient = {
    messages,
    closeCode: undefined,
    send: bytes =>
      typeof bytes === 'string' ? frame(opcodes.text, Buffer.from(bytes)) : frame(opcodes.binary, bytes),
    async ping() {
      const pong = once(events, 'pong');
      await frame(opcodes.ping, Buffer.from('?'));
      await pong;
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => void frame(opcodes.close, Buffer.from([0x03, 0xe8])).catch(() => {}),
    destroy: () => void socket.destroy(),
    closed,
    channel: number =>
      Buffer.concat(
        messages.filter(({ bytes }) => bytes[0] === number).map(({ bytes }) => bytes.subarray(1)),
      ),
    async until(number, fits) {
      for (;;) {
        const text = client.channel(number).toString();
        if (fits(text)) return text;
        if (socket.destroyed) throw new Error(`the connection ended; channel ${number} had: ${text}`);
        await once(events, 'message');
      }
    },
    onMessage(wanted) {
      handler = wanted;
    },
    asByteStream() {
      const stream = new Duplex({
        read: () => void socket.resume(),
        write: (chunk: Buffer, _encoding, done) => void frame(opcodes.binary, chunk).then(() => done(), done),
        final(done) {
          client.close();
          done();
        },
        destroy(error, done) {
          socket.destroy();
          done(error);
        },
      });
      handler = ({ bytes }) => {
        if (!stream.push(bytes)) socket.pause();
      };
      void closed.then(() => stream.push(null));
      return stream;
    },
  };
  return client;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}
