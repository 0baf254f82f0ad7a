// Frames of SPDY/3.1 (the protocol's sections 2.2 and 2.6): their layout on the wire, and a reader that takes bytes as
// they come. Data is handed on piece by piece, so that no frame, however long, is ever held whole.

export const controlTypes = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;

export const flags = { fin: 0x01, unidirectional: 0x02 } as const;

/** RST_STREAM status codes (2.6.3) that this server sends or names. */
export const resetCodes = {
  protocolError: 1,
  invalidStream: 2,
  refusedStream: 3,
  cancel: 5,
  internalError: 6,
  flowControlError: 7,
  streamInUse: 8,
  streamAlreadyClosed: 9,
} as const;

export const goAwayCodes = { ok: 0, protocolError: 1, internalError: 2 } as const;

/** SETTINGS id of the window that new streams start with (2.6.4). */
export const initialWindowSetting = 7;

const version = 3; // 3.1 kept the number
const headerBytes = 8;
/** A control frame is small: what is larger is an attack or a mistake. */
const maxControlBytes = 64 * 1024;

/** What the peer said that breaks the protocol; ends the session. */
export class SpdyError extends Error {}

export interface ControlFrame {
  readonly type: number;
  readonly flags: number;
  readonly payload: Buffer;
}

/** A piece of a data frame; `fin` comes with the last piece of a frame that half-closes its stream. */
export interface DataPiece {
  readonly streamId: number;
  readonly bytes: Buffer;
  readonly fin: boolean;
}

export type Frame = ControlFrame | DataPiece;

export interface FrameReader {
  /** The frames, and pieces of data frames, that are complete with `bytes`. @throws SpdyError */
  feed(bytes: Buffer): Generator<Frame>;
}

export function createFrameReader(): FrameReader {
  /** Bytes of a header or control frame that is not complete yet. */
  let held: Buffer = Buffer.alloc(0);
  let data: { streamId: number; left: number; fin: boolean } | undefined;

  return {
    *feed(bytes) {
      let rest = held.length > 0 ? Buffer.concat([held, bytes]) : bytes;
      held = Buffer.alloc(0);
      for (;;) {
        if (data) {
          if (rest.length === 0) return;
          const piece = rest.subarray(0, data.left);
          rest = rest.subarray(piece.length);
          data.left -= piece.length;
          const { streamId, left, fin } = data;
          if (left === 0) data = undefined;
          yield { streamId, bytes: piece, fin: fin && left === 0 };
          continue;
        }
        const header = readHeader(rest);
        if (header?.kind === 'data') {
          rest = rest.subarray(headerBytes);
          const { streamId, length, fin } = header;
          if (length > 0) data = { streamId, left: length, fin };
          else if (fin) yield { streamId, bytes: rest.subarray(0, 0), fin };
          continue;
        }
        if (!header || rest.length < headerBytes + header.length) {
          held = Buffer.from(rest);
          return;
        }
        const payload = rest.subarray(headerBytes, headerBytes + header.length);
        rest = rest.subarray(headerBytes + header.length);
        yield { type: header.type, flags: header.flags, payload };
      }
    },
  };
}

type Header =
  | { kind: 'control'; type: number; flags: number; length: number }
  | { kind: 'data'; streamId: number; fin: boolean; length: number };

function readHeader(bytes: Buffer): Header | undefined {
  if (bytes.length < headerBytes) return undefined;
  const first = bytes.readUInt32BE(0);
  const frameFlags = bytes.readUInt8(4);
  const length = bytes.readUIntBE(5, 3);
  if (first < 2 ** 31) {
    if (first === 0) throw new SpdyError('a data frame is of stream 0');
    return { kind: 'data', streamId: first, fin: (frameFlags & flags.fin) !== 0, length };
  }
  const [frameVersion, type] = [(first >>> 16) & 0x7fff, first & 0xffff];
  if (frameVersion !== version)
    throw new SpdyError(`a control frame is of SPDY version ${frameVersion}, not 3`);
  if (length > maxControlBytes) {
    throw new SpdyError(`a control frame of ${length} bytes is longer than ${maxControlBytes}`);
  }
  return { kind: 'control', type, flags: frameFlags, length };
}

export interface SynStream {
  readonly streamId: number;
  readonly fin: boolean;
  readonly unidirectional: boolean;
  /** Compressed name/value block. */
  readonly block: Buffer;
}

/** 2.6.1. The associated stream and the priority are read over: neither matters to the streams served here. */
export function readSynStream({ flags: bits, payload }: ControlFrame): SynStream {
  requireLength('SYN_STREAM', payload, 10, 'atLeast');
  return {
    streamId: readId(payload, 0),
    fin: (bits & flags.fin) !== 0,
    unidirectional: (bits & flags.unidirectional) !== 0,
    block: payload.subarray(10),
  };
}

/** 2.6.7 */
export function readHeadersFrame({ flags: bits, payload }: ControlFrame): {
  streamId: number;
  fin: boolean;
  block: Buffer;
} {
  requireLength('HEADERS', payload, 4, 'atLeast');
  return { streamId: readId(payload, 0), fin: (bits & flags.fin) !== 0, block: payload.subarray(4) };
}

/** 2.6.3 */
export function readRstStream({ payload }: ControlFrame): { streamId: number; code: number } {
  requireLength('RST_STREAM', payload, 8, 'exactly');
  return { streamId: readId(payload, 0), code: payload.readUInt32BE(4) };
}

/** 2.6.4. Values by id. */
export function readSettings({ payload }: ControlFrame): Map<number, number> {
  requireLength('SETTINGS', payload, 4, 'atLeast');
  const count = payload.readUInt32BE(0);
  requireLength('SETTINGS', payload, 4 + count * 8, 'exactly');
  const settings = new Map<number, number>();
  for (let i = 0; i < count; i++)
    settings.set(payload.readUIntBE(4 + i * 8 + 1, 3), payload.readUInt32BE(8 + i * 8));
  return settings;
}

/** 2.6.5 */
export function readPing({ payload }: ControlFrame): number {
  requireLength('PING', payload, 4, 'exactly');
  return payload.readUInt32BE(0);
}

/** 2.6.8; stream 0 is the session. */
export function readWindowUpdate({ payload }: ControlFrame): { streamId: number; delta: number } {
  requireLength('WINDOW_UPDATE', payload, 8, 'exactly');
  const delta = payload.readUInt32BE(4) & 0x7fffffff;
  if (delta === 0) throw new SpdyError('a WINDOW_UPDATE adds nothing');
  return { streamId: readId(payload, 0), delta };
}

function readId(payload: Buffer, offset: number): number {
  return payload.readUInt32BE(offset) & 0x7fffffff;
}

function requireLength(frame: string, payload: Buffer, length: number, how: 'exactly' | 'atLeast'): void {
  if (how === 'exactly' ? payload.length === length : payload.length >= length) return;
  throw new SpdyError(`a ${frame} frame has ${payload.length} bytes where ${length} are needed`);
}

/** Header of a data frame of `length` bytes, which follow it on the wire. */
export function dataHeader(streamId: number, length: number, fin: boolean): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt32BE(streamId, 0);
  header.writeUInt8(fin ? flags.fin : 0, 4);
  header.writeUIntBE(length, 5, 3);
  return header;
}

function control(type: number, frameFlags: number, ...parts: readonly (Buffer | number)[]): Buffer {
  const payload = parts.map(part => (typeof part === 'number' ? uint32(part) : part));
  const header = Buffer.alloc(headerBytes);
  header.writeUInt16BE(0x8000 | version, 0);
  header.writeUInt16BE(type, 2);
  header.writeUInt8(frameFlags, 4);
  header.writeUIntBE(
    payload.reduce((sum, part) => sum + part.length, 0),
    5,
    3,
  );
  return Buffer.concat([header, ...payload]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

export const writeFrame = {
  synReply: (streamId: number, block: Buffer) => control(controlTypes.synReply, 0, streamId, block),
  rstStream: (streamId: number, code: number) => control(controlTypes.rstStream, 0, streamId, code),
  ping: (id: number) => control(controlTypes.ping, 0, id),
  goAway: (lastStreamId: number, code: number) => control(controlTypes.goAway, 0, lastStreamId, code),
  windowUpdate: (streamId: number, delta: number) => control(controlTypes.windowUpdate, 0, streamId, delta),
};
