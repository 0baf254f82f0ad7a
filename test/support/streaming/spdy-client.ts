// A SPDY/3.1 client written from the protocol's text, sharing nothing with the server. It plays two kinds of peers:
// `strict`, which keeps windows on both sides, and `careless`, which like Kubernetes' Go client neither heeds nor sends
// WINDOW_UPDATE.
import { Duplex, type Readable } from 'node:stream';
import { constants, createDeflate, createInflate } from 'node:zlib';
import { requestUpgrade, type UpgradeOptions } from './http-upgrade.ts';
import { spdyDictionary } from './spdy-dictionary.ts';

export interface SpdyClientOptions {
  flow?: 'strict' | 'careless';
}

export interface ClientStream {
  readonly id: number;
  readonly duplex: Duplex;
  /** Resolves when the server has accepted the stream (SYN_REPLY). */
  readonly replied: Promise<void>;
  /** The status of the server's RST_STREAM, once it came. */
  resetCode: number | undefined;
  reset(code: number): void;
}

export interface SpdyClient {
  readonly socket: Duplex;
  /** Every frame that came, as `TYPE id` or `DATA id length fin`. */
  readonly seen: string[];
  open(
    headers: Record<string, string>,
    options?: { fin?: boolean; flags?: number; id?: number },
  ): Promise<ClientStream>;
  /** Resolves when the server has answered. */
  ping(): Promise<void>;
  /** Sends bytes as they are. */
  raw(bytes: Buffer): void;
  settings(initialWindow: number): void;
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<void>;
  close(): void;
}

const initialWindow = 65536;

export async function connectSpdy(
  url: string,
  protocols: string[],
  options: SpdyClientOptions & Partial<UpgradeOptions> = {},
) {
  const answer = await requestUpgrade(url, {
    method: options.method ?? 'POST',
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    headers: {
      Connection: 'Upgrade',
      Upgrade: 'SPDY/3.1',
      ...(protocols.length === 0 ? {} : { 'X-Stream-Protocol-Version': protocols }),
      ...options.headers,
    },
  });
  return { ...answer, client: answer.socket && speakSpdy(answer.socket, options) };
}

interface State {
  stream: ClientStream;
  sendWindow: number;
  unread: number;
  replied(): void;
  waiting: (() => void) | undefined;
  roomWanted: (() => void) | undefined;
}

export function speakSpdy(socket: Duplex, { flow = 'careless' }: SpdyClientOptions = {}): SpdyClient {
  const deflate = createDeflate({ dictionary: spdyDictionary });
  const inflate = createInflate({ dictionary: spdyDictionary });
  inflate.on('data', () => {});
  const streams = new Map<number, State>();
  const seen: string[] = [];
  const pings = new Map<number, () => void>();
  let nextId = 1;
  let nextPing = 1;
  let sessionWindow = initialWindow;
  let receiveWindow = initialWindow;
  let sessionUnread = 0;
  let compressing: Promise<unknown> = Promise.resolve();

  const write = (bytes: Buffer) => {
    if (socket.writable) socket.write(bytes);
  };
  const control = (type: number, flags: number, payload: Buffer) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE((0x80030000 | type) >>> 0, 0);
    head.writeUInt32BE(((flags << 24) | payload.length) >>> 0, 4);
    write(Buffer.concat([head, payload]));
  };
  const numbers = (...values: number[]) => {
    const bytes = Buffer.alloc(values.length * 4);
    for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, i * 4);
    return bytes;
  };
  const data = (id: number, bytes: Buffer, fin: boolean, done?: () => void) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(id, 0);
    head.writeUInt32BE(((fin ? 1 : 0) << 24) | bytes.length, 4);
    socket.write(head);
    socket.write(bytes, done);
  };

  function compress(headers: Record<string, string>): Promise<Buffer> {
    const entries = Object.entries(headers);
    const parts = [numbers(entries.length)];
    for (const text of entries.flat()) parts.push(numbers(Buffer.byteLength(text)), Buffer.from(text));
    const work = compressing.then(
      () =>
        new Promise<Buffer>(resolve => {
          deflate.write(Buffer.concat(parts));
          deflate.flush(constants.Z_SYNC_FLUSH, () => resolve(deflate.read() as Buffer));
        }),
    );
    compressing = work;
    return work;
  }

  async function open(headers: Record<string, string>, { fin = false, flags = 0, id: wanted = 0 } = {}) {
    const block = await compress(headers);
    const id = wanted || nextId;
    nextId = id + 2;
    let replied = () => {};
    const state: State = {
      sendWindow: initialWindow,
      unread: 0,
      waiting: undefined,
      roomWanted: undefined,
      replied: () => replied(),
      stream: {
        id,
        resetCode: undefined,
        replied: new Promise<void>(resolve => (replied = resolve)),
        reset: code => control(3, 0, numbers(id, code)),
        duplex: new Duplex({
          readableHighWaterMark: 256 * 1024,
          read() {
            setImmediate(credit, id, state);
            state.roomWanted?.();
          },
          write(chunk: Buffer, _encoding, done) {
            sendAll(id, state, chunk, done);
          },
          final(done) {
            data(id, Buffer.alloc(0), true, done);
          },
        }),
      },
    };
    const { duplex } = state.stream;
    duplex.on('error', () => {});
    // Node does not tell when buffered data is taken, only when it wants more: look at the taking itself.
    const take = duplex.read.bind(duplex);
    duplex.read = size => {
      setImmediate(credit, id, state);
      return take(size);
    };
    streams.set(id, state);
    control(1, (fin ? 1 : 0) | flags, Buffer.concat([numbers(id, 0), Buffer.alloc(2), block]));
    return state.stream;
  }

  function sendAll(id: number, state: State, bytes: Buffer, done: () => void): void {
    const allowed =
      flow === 'careless' ? bytes.length : Math.min(state.sendWindow, sessionWindow, bytes.length);
    if (allowed <= 0) {
      state.waiting = () => sendAll(id, state, bytes, done);
      return;
    }
    state.sendWindow -= allowed;
    sessionWindow -= allowed;
    const rest = bytes.subarray(allowed);
    data(id, bytes.subarray(0, allowed), false, () =>
      rest.length > 0 ? sendAll(id, state, rest, done) : done(),
    );
  }

  function wake(): void {
    for (const state of streams.values()) {
      const { waiting } = state;
      state.waiting = undefined;
      waiting?.();
    }
  }

  /** What was read may be sent again. */
  function credit(id: number, state: State): void {
    if (flow !== 'strict') return;
    const read = state.unread - state.stream.duplex.readableLength;
    if (read <= 0) return;
    state.unread -= read;
    sessionUnread -= read;
    control(9, 0, numbers(id, read));
    control(9, 0, numbers(0, read));
  }

  function onControl(type: number, payload: Buffer): void {
    const id = payload.length >= 4 ? payload.readUInt32BE(0) : 0;
    seen.push(
      `${['', 'SYN_STREAM', 'SYN_REPLY', 'RST_STREAM', 'SETTINGS', '', 'PING', 'GOAWAY', 'HEADERS', 'WINDOW_UPDATE'][type]} ${id}`,
    );
    const state = streams.get(id);
    if (type === 2) {
      inflate.write(payload.subarray(4));
      inflate.flush(constants.Z_SYNC_FLUSH, () => state?.replied());
    } else if (type === 3 && state) {
      state.stream.resetCode = payload.readUInt32BE(4);
      state.stream.duplex.destroy(new Error(`reset by the server: ${state.stream.resetCode}`));
    } else if (type === 6) {
      if (id % 2 === 0) control(6, 0, payload);
      else pings.get(id)?.();
    } else if (type === 9 && flow === 'strict') {
      const delta = payload.readUInt32BE(4);
      if (id === 0) sessionWindow += delta;
      else if (state) state.sendWindow += delta;
      wake();
    }
  }

  async function readFrames(): Promise<void> {
    let held: Buffer = Buffer.alloc(0);
    for await (const chunk of socket) {
      held = held.length > 0 ? Buffer.concat([held, chunk as Buffer]) : (chunk as Buffer);
      while (held.length >= 8) {
        const length = held.readUIntBE(5, 3);
        if (held.length < 8 + length) break;
        const [first, flags, payload] = [
          held.readUInt32BE(0),
          held.readUInt8(4),
          held.subarray(8, 8 + length),
        ];
        held = held.subarray(8 + length);
        if (first >= 2 ** 31) onControl(first & 0xffff, payload);
        else await onData(first, payload, (flags & 1) !== 0);
      }
    }
  }

  async function onData(id: number, bytes: Buffer, fin: boolean): Promise<void> {
    if (seen.length < 10_000) seen.push(`DATA ${id} ${bytes.length}${fin ? ' fin' : ''}`);
    const state = streams.get(id);
    if (!state || state.stream.duplex.destroyed) return;
    const { duplex } = state.stream;
    state.unread += bytes.length;
    sessionUnread += bytes.length;
    if (flow === 'strict' && (state.unread > receiveWindow || sessionUnread > initialWindow)) {
      throw new Error(`the server overran the window of stream ${id}`);
    }
    const room = bytes.length === 0 || duplex.push(bytes);
    if (fin) duplex.push(null);
    // A careless peer stops reading the connection when its application does not read.
    if (room || flow === 'strict') return;
    await new Promise<void>(resolve => {
      state.roomWanted = resolve;
      duplex.once('close', resolve);
    });
  }

  const closed = readFrames()
    .catch(() => {})
    .then(() => {
      for (const { stream } of streams.values()) if (!stream.duplex.readableEnded) stream.duplex.destroy();
    });

  return {
    socket,
    seen,
    open,
    ping: () =>
      new Promise(resolve => {
        pings.set(nextPing, resolve);
        control(6, 0, numbers(nextPing));
        nextPing += 2;
      }),
    raw: write,
    settings(window) {
      receiveWindow = window;
      control(4, 0, Buffer.concat([numbers(1, 7), numbers(window)]));
    },
    closed,
    close: () => socket.destroy(),
  };
}

/** Everything that comes on a stream, as text; what is still written to it goes on. */
export async function textOf(stream: Readable | undefined): Promise<string> {
  const chunks: Buffer[] = [];
  if (stream)
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
