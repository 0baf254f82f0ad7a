// One stream of a SPDY session as a Node Duplex: bytes both ways, each way half-closed by itself (FIN), both ended at
// once by RST_STREAM. Bounds what it holds: it sends as far as the peer's windows reach and gives the peer credit only
// for what has been read.
import { Duplex } from 'node:stream';
import { resetCodes } from './frames.ts';
import type { Headers } from './headers.ts';

/** What a stream has of its session. */
export interface StreamHost {
  /** How many bytes may be sent on this stream now. */
  allowance(streamId: number): number;
  /** Sends data; `sent` is called when the transport has taken it. */
  sendData(streamId: number, bytes: Buffer, sent: (error?: Error | null) => void): void;
  sendFin(streamId: number, sent: (error?: Error | null) => void): void;
  sendReset(streamId: number, code: number): void;
  /** Received bytes that are held no more: read, or thrown away. */
  consumed(bytes: number): void;
  /** Bytes that were read out of this stream: the peer may send as many again on it. */
  credit(streamId: number, bytes: number): void;
  /** The peer sent more than it may: it knows no windows. */
  overrun(): void;
  /** The stream wants to send but may not: the session calls `resume` when it may. */
  blocked(streamId: number): void;
  closed(streamId: number): void;
}

export interface SpdyStream {
  readonly id: number;
  readonly headers: Headers;
  readonly duplex: Duplex;
  /** Takes what the peer sent; resolves when there is room for more. */
  receive(bytes: Buffer, fin: boolean): Promise<void> | undefined;
  /** The peer reset the stream. */
  wasReset(code: number): void;
  /** Goes on sending after `blocked`. */
  resume(): void;
}

/** Bytes that a peer may have sent and nobody read: SPDY's own initial window. */
export const receiveWindow = 64 * 1024;
/** One frame of data: large enough to cost little, small enough to let other streams in between. */
const maxFrameBytes = 32 * 1024;

export function createStream(id: number, headers: Headers, host: StreamHost): SpdyStream {
  const queue: Buffer[] = [];
  let queued = 0;
  let finReceived = false;
  let finSent = false;
  let reset = false;
  let roomWanted: (() => void) | undefined;
  let pending: { bytes: Buffer; done: (error?: Error | null) => void } | undefined;

  /** Moves what was received into the readable side as far as it takes it. */
  function drain(): void {
    let taken = 0;
    let wantsMore = true;
    while (wantsMore && queue.length > 0) {
      const chunk = queue.shift() as Buffer;
      taken += chunk.length;
      wantsMore = duplex.push(chunk);
    }
    queued -= taken;
    if (queue.length === 0 && finReceived && !duplex.readableEnded) duplex.push(null);
    if (taken > 0) host.consumed(taken);
    if (taken > 0 && !finReceived) host.credit(id, taken);
    if (queued <= receiveWindow) releaseRoom();
  }

  function releaseRoom(): void {
    roomWanted?.();
    roomWanted = undefined;
  }

  function flush(): void {
    if (!pending || duplex.destroyed) return;
    const { bytes, done } = pending;
    const length = Math.min(bytes.length, host.allowance(id), maxFrameBytes);
    if (length <= 0) {
      host.blocked(id);
      return;
    }
    const rest = bytes.subarray(length);
    if (rest.length === 0) {
      pending = undefined;
      host.sendData(id, bytes, done);
      return;
    }
    pending = { bytes: rest, done };
    host.sendData(id, bytes.subarray(0, length), error => {
      if (error) done(error);
      else flush();
    });
  }

  const duplex = new Duplex({
    readableHighWaterMark: receiveWindow,
    writableHighWaterMark: maxFrameBytes,
    read: drain,
    write(chunk: Buffer, _encoding, done) {
      if (chunk.length === 0) {
        done();
        return;
      }
      pending = { bytes: chunk, done };
      flush();
    },
    final(done) {
      finSent = true;
      host.sendFin(id, done);
    },
    destroy(error, done) {
      if (!reset && !(finSent && finReceived)) host.sendReset(id, resetCodes.cancel);
      host.consumed(queued);
      queue.length = 0;
      queued = 0;
      releaseRoom();
      host.closed(id);
      done(error);
    },
  });
  // Whoever uses the stream hears of it; one that nobody uses yet must not end the daemon.
  duplex.on('error', () => {});

  return {
    id,
    headers,
    duplex,
    receive(bytes, fin) {
      if (duplex.destroyed || finReceived) {
        host.consumed(bytes.length);
        return undefined;
      }
      if (bytes.length > 0) {
        queue.push(bytes);
        queued += bytes.length;
      }
      finReceived = fin;
      if (duplex.readableLength < duplex.readableHighWaterMark) drain();
      if (queued <= receiveWindow) return undefined;
      host.overrun();
      // The whole connection has to wait.
      return new Promise(resolve => {
        roomWanted = resolve;
      });
    },
    wasReset(code) {
      reset = true;
      // A peer that sent its last byte resets only to say that it wants no more of ours.
      duplex.destroy(new Error(`the client reset stream ${id} (code ${code})`));
    },
    resume: flush,
  };
}
