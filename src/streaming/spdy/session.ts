// A SPDY/3.1 session, server's side, over any byte stream: a socket after an HTTP upgrade, or a WebSocket that tunnels
// SPDY. The client opens every stream. Flow control as 3.1 words it (2.6.8), with one allowance made: the Go client
// that kubectl, kubelet and crictl share knows no windows, so a peer is asked before it is waited for.
import type { Duplex } from 'node:stream';
import { messageOf } from '../../errors.ts';
import {
  type ControlFrame,
  controlTypes,
  createFrameReader,
  type DataPiece,
  dataHeader,
  goAwayCodes,
  initialWindowSetting,
  readHeadersFrame,
  readPing,
  readRstStream,
  readSettings,
  readSynStream,
  readWindowUpdate,
  resetCodes,
  SpdyError,
  writeFrame,
} from './frames.ts';
import { createEmptyBlocks, createHeaderDecoder } from './headers.ts';
import { createStream, receiveWindow, type SpdyStream, type StreamHost } from './stream.ts';

export interface SpdySessionOptions {
  /** A stream that the client opened; it is answered (SYN_REPLY) already. */
  onStream(stream: SpdyStream): void;
  /** Data moved, in either direction. */
  onActivity(): void;
  /** Streams open at the same time; more are refused. */
  maxStreams: number;
}

export interface SpdySession {
  /** Resolves when the connection is over, with the reason when it did not end in order. */
  readonly ended: Promise<Error | undefined>;
  /** Says goodbye and closes the connection, whatever is still open on it. */
  close(): void;
}

/** SPDY's initial windows of a stream and of the session. */
const initialWindow = 64 * 1024;
/** What a peer may have sent on all streams and nobody read. Above one stream's, so that one alone stops no other. */
const sessionReceiveWindow = 1024 * 1024;
const maxWindow = 2 ** 31 - 1;
/** How long after its answer a peer may still say that it keeps windows, in milliseconds; once a session. */
const answerGraceMs = 100;
/** Bytes that wait for a peer that reads slowly, over all streams: beyond it streams wait instead. */
const maxUnsentData = 256 * 1024;
/** With the answers to what such a peer goes on asking: beyond it the connection is broken off. */
const maxUnsentBytes = 1024 * 1024;

export function serveSpdy(transport: Duplex, options: SpdySessionOptions): SpdySession {
  const { onStream, onActivity, maxStreams } = options;
  const streams = new Map<number, SpdyStream>();
  const frames = createFrameReader();
  const headers = createHeaderDecoder();
  const emptyBlock = createEmptyBlocks();
  const windows = createSendWindows(() => send(writeFrame.ping(2)), resumeBlocked);
  const credits = createCredits((streamId, delta) => send(writeFrame.windowUpdate(streamId, delta)));
  const blocked = new Set<number>();
  let lastStreamId = 0;
  let over = false;
  /** Bytes of all streams that arrived and that nobody read. */
  let unread = 0;
  let roomWanted = (): void => {};

  /** Control frames are small, but a peer that asks and never reads would pile up our answers. */
  function send(bytes: Buffer): void {
    if (over || !transport.writable) return;
    transport.write(bytes);
    if (transport.writableLength > maxUnsentBytes)
      transport.destroy(new SpdyError('the client does not read'));
  }

  function resumeBlocked(): void {
    const waiting = [...blocked];
    blocked.clear();
    for (const id of waiting) streams.get(id)?.resume();
  }

  const host: StreamHost = {
    allowance: id => (transport.writableLength > maxUnsentData ? 0 : windows.allowance(id)),
    sendData(id, bytes, sent) {
      onActivity();
      windows.spend(id, bytes.length);
      if (!transport.writable) {
        sent(new Error('the connection is closed'));
        return;
      }
      transport.cork();
      transport.write(dataHeader(id, bytes.length, false));
      transport.write(bytes, sent);
      transport.uncork();
    },
    sendFin(id, sent) {
      if (transport.writable) transport.write(dataHeader(id, 0, true), sent);
      else sent(new Error('the connection is closed'));
    },
    sendReset: (id, code) => send(writeFrame.rstStream(id, code)),
    consumed(bytes) {
      unread -= bytes;
      credits.add(0, bytes);
      if (unread <= sessionReceiveWindow) roomWanted();
    },
    credit: (id, bytes) => credits.add(id, bytes),
    overrun: () => windows.peerKeepsNone(),
    blocked(id) {
      blocked.add(id);
      if (windows.allowance(id) <= 0) windows.askPeer();
    },
    closed(id) {
      blocked.delete(id);
      windows.forget(id);
      credits.forget(id);
      streams.delete(id);
    },
  };

  async function onControl(frame: ControlFrame): Promise<void> {
    switch (frame.type) {
      case controlTypes.synStream:
        return onSynStream(frame);
      case controlTypes.headers: {
        const { streamId, fin, block } = readHeadersFrame(frame);
        await headers.decode(block); // the zlib context must see it; nobody wants what it says
        if (fin) await streams.get(streamId)?.receive(Buffer.alloc(0), true);
        return;
      }
      case controlTypes.synReply:
        throw new SpdyError('the client answers a stream that was not opened to it');
      case controlTypes.rstStream: {
        const { streamId, code } = readRstStream(frame);
        streams.get(streamId)?.wasReset(code);
        return;
      }
      case controlTypes.settings: {
        const window = readSettings(frame).get(initialWindowSetting);
        if (window !== undefined) windows.setInitial(window);
        return;
      }
      case controlTypes.ping: {
        const id = readPing(frame);
        // Odd ids are the client's, which wants them back; even ones are our own coming back.
        if (id % 2 === 1) send(writeFrame.ping(id));
        else windows.peerAnswered();
        return;
      }
      case controlTypes.windowUpdate: {
        const { streamId, delta } = readWindowUpdate(frame);
        windows.grow(streamId, delta);
        return;
      }
      default: // GOAWAY announces what the end of the connection will say; unknown types are to be ignored (2.2.1)
        return;
    }
  }

  async function onSynStream(frame: ControlFrame): Promise<void> {
    const { streamId, fin, unidirectional, block } = readSynStream(frame);
    const names = await headers.decode(block);
    if (streams.has(streamId)) {
      streams.get(streamId)?.duplex.destroy();
      throw new SpdyError(`stream ${streamId} is opened twice`);
    }
    if (streamId % 2 === 0 || streamId < lastStreamId) {
      throw new SpdyError(`stream ${streamId} cannot be opened by a client after stream ${lastStreamId}`);
    }
    lastStreamId = streamId;
    if (unidirectional || streams.size >= maxStreams) {
      send(writeFrame.rstStream(streamId, resetCodes.refusedStream));
      return;
    }
    windows.open(streamId);
    const stream = createStream(streamId, names, host);
    streams.set(streamId, stream);
    send(writeFrame.synReply(streamId, emptyBlock()));
    onStream(stream);
    if (fin) await stream.receive(Buffer.alloc(0), true);
  }

  async function onData({ streamId, bytes, fin }: DataPiece): Promise<void> {
    onActivity();
    unread += bytes.length;
    const stream = streams.get(streamId);
    if (!stream) {
      host.consumed(bytes.length);
      // To a stream that was closed, it was on its way.
      if (streamId > lastStreamId) send(writeFrame.rstStream(streamId, resetCodes.invalidStream));
      return;
    }
    await stream.receive(bytes, fin);
    if (unread <= sessionReceiveWindow) return;
    await new Promise<void>(resolve => {
      roomWanted = resolve;
    });
  }

  async function serve(): Promise<void> {
    send(writeFrame.windowUpdate(0, sessionReceiveWindow - initialWindow));
    for await (const chunk of transport.iterator({ destroyOnReturn: false })) {
      for (const frame of frames.feed(chunk as Buffer)) {
        if ('type' in frame) await onControl(frame);
        else await onData(frame);
      }
    }
  }

  function finish(error: Error | undefined): Error | undefined {
    if (error instanceof SpdyError) send(writeFrame.goAway(lastStreamId, goAwayCodes.protocolError));
    over = true;
    headers.close();
    for (const { duplex } of [...streams.values()]) {
      // A stream whose last byte came is complete; what is cut off must not look so.
      duplex.destroy(new Error(error ? messageOf(error) : 'the client closed the connection'));
    }
    if (error) transport.destroy();
    else transport.end();
    return error;
  }

  transport.on('drain', resumeBlocked);
  transport.on('error', () => {}); // the loop over it is told
  const ended = serve().then(
    () => finish(undefined),
    (error: unknown) => finish(error instanceof Error ? error : new Error(String(error))),
  );
  return {
    ended,
    close() {
      send(writeFrame.goAway(lastStreamId, goAwayCodes.ok));
      transport.destroy();
    },
  };
}

interface SendWindows {
  open(streamId: number): void;
  forget(streamId: number): void;
  allowance(streamId: number): number;
  spend(streamId: number, bytes: number): void;
  /** WINDOW_UPDATE. @throws SpdyError when a window overflows */
  grow(streamId: number, delta: number): void;
  /** SETTINGS: also the windows of open streams move by the difference. */
  setInitial(window: number): void;
  /** A stream ran into its window: find out whether the peer will ever open it. */
  askPeer(): void;
  /** The answer to the question came. */
  peerAnswered(): void;
  /** The peer showed that it knows no windows. */
  peerKeepsNone(): void;
}

/**
 * What may be sent. A peer that keeps windows says so by its first SETTINGS or WINDOW_UPDATE, before it answers a later
 * PING or, when nobody reads there yet, soon after. One that answers and says nothing keeps none, and TCP alone holds us
 * back. So does one that sends beyond our windows: were it asked then, its answer would stand in line behind that.
 */
function createSendWindows(ping: () => void, resume: () => void): SendWindows {
  const windows = new Map<number, number>();
  let session = initialWindow;
  let initial = initialWindow;
  let peer: 'unknown' | 'asked' | 'keeps windows' | 'keeps none' = 'unknown';
  const keepsNone = (): void => {
    peer = 'keeps none';
    resume();
  };

  return {
    open: id => void windows.set(id, initial),
    forget: id => void windows.delete(id),
    allowance(id) {
      if (peer === 'keeps none') return Number.POSITIVE_INFINITY;
      return Math.min(session, windows.get(id) ?? 0);
    },
    spend(id, bytes) {
      session -= bytes;
      windows.set(id, (windows.get(id) ?? 0) - bytes);
    },
    grow(id, delta) {
      peer = 'keeps windows';
      if (id === 0) session += delta;
      else if (windows.has(id)) windows.set(id, (windows.get(id) ?? 0) + delta);
      if (Math.max(session, windows.get(id) ?? 0) > maxWindow) {
        throw new SpdyError(`the window of stream ${id} grows beyond ${maxWindow}`);
      }
      resume();
    },
    setInitial(window) {
      peer = 'keeps windows';
      for (const [id, current] of windows) windows.set(id, current + window - initial);
      initial = window;
      resume();
    },
    askPeer() {
      if (peer !== 'unknown') return;
      peer = 'asked';
      ping();
    },
    peerAnswered() {
      if (peer !== 'asked') return;
      const timer = setTimeout(() => {
        if (peer === 'asked') keepsNone();
      }, answerGraceMs);
      timer.unref();
    },
    peerKeepsNone() {
      if (peer !== 'keeps none') keepsNone();
    },
  };
}

interface Credits {
  /** Bytes that were read out of a stream, or (stream 0) out of any. */
  add(streamId: number, bytes: number): void;
  forget(streamId: number): void;
}

/** Gathers what the peer may send again, and tells it when half a window has come together. */
function createCredits(update: (streamId: number, delta: number) => void): Credits {
  const owed = new Map<number, number>();
  return {
    add(id, bytes) {
      const sum = (owed.get(id) ?? 0) + bytes;
      const worthTelling = sum >= (id === 0 ? sessionReceiveWindow : receiveWindow) / 2;
      owed.set(id, worthTelling ? 0 : sum);
      if (worthTelling) update(id, sum);
    },
    forget: id => void owed.delete(id),
  };
}
