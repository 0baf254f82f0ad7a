// A Node stream over a descriptor that Node itself cannot drive: a pty master (its writes would block the event
// loop there) or a SOCK_SEQPACKET socket. Non-blocking reads and writes, woken by src/host/readiness.ts.
import { Duplex } from 'node:stream';
import { check, HostError, sys } from './libc.ts';
import type { Readiness } from './readiness.ts';

export interface FdStreamOptions {
  /** The sentence's beginning in errors: `reading from the terminal of ...`. */
  readonly what: string;
  /** Each chunk is one packet; a written chunk is one packet too. Default: bytes without boundaries. */
  readonly packets?: boolean;
  /** Most bytes of one read; a packet that is longer is cut. */
  readonly readBytes: number;
  /** What the end of writing does to the descriptor. Default: nothing. */
  readonly onEnd?: (fd: number) => void;
}

/** Reads in a row before others get their turn. */
const readsAtOnce = 16;
const [getFlags, setFlags, nonBlocking] = [3, 4, 0o4000]; // F_GETFL, F_SETFL, O_NONBLOCK

/** Takes over `fd`, makes it non-blocking, and closes it when the stream is destroyed. */
export function openFdStream(fd: number, readiness: Readiness, options: FdStreamOptions): Duplex {
  const { what, packets = false, readBytes, onEnd } = options;
  const flags = check(sys.fcntl(fd, getFlags, 0), 'fcntl', what);
  check(sys.fcntl(fd, setFlags, flags | nonBlocking), 'fcntl', what);
  const wishes = new Map<'readable' | 'writable', () => void>();

  const whenReady = (direction: 'readable' | 'writable', then: () => void): void => {
    if (wishes.has(direction) || stream.destroyed) return;
    const unwish = readiness.once(fd, direction, () => {
      wishes.delete(direction);
      then();
    });
    wishes.set(direction, unwish);
  };

  const read = (): void => {
    for (let i = 0; i < readsAtOnce; i++) {
      if (stream.destroyed) return;
      const buffer = Buffer.allocUnsafe(readBytes);
      const count = attempt(() => Number(sys.read(fd, buffer, readBytes)), 'read', what);
      if (count === 'again') break;
      if (count instanceof Error) {
        stream.destroy(count);
        return;
      }
      if (count === 0) {
        stream.push(null);
        return;
      }
      // Small reads out of a large buffer would keep the whole buffer alive.
      const chunk =
        count < readBytes / 2 ? Buffer.from(buffer.subarray(0, count)) : buffer.subarray(0, count);
      if (!stream.push(chunk)) return; // read() is called again when there is room
    }
    whenReady('readable', read);
  };

  const write = (chunk: Buffer, done: (error?: Error | null) => void): void => {
    if (stream.destroyed) {
      done(new Error(`${what}: the stream is closed`));
      return;
    }
    const count = attempt(() => Number(sys.write(fd, chunk, chunk.length)), 'write', what);
    if (count instanceof Error) done(isGone(count) ? null : count);
    else if (count === 'again') whenReady('writable', () => write(chunk, done));
    else if (count < chunk.length && !packets) write(chunk.subarray(count), done);
    else done();
  };

  const stream = new Duplex({
    readableObjectMode: packets,
    readableHighWaterMark: packets ? 8 : readBytes,
    read: () => read(),
    write: (chunk: Buffer, _encoding, done) => write(chunk, done),
    final(done) {
      onEnd?.(fd);
      done();
    },
    destroy(error, done) {
      for (const unwish of wishes.values()) unwish();
      wishes.clear();
      sys.close(fd);
      done(error);
    },
  });
  return stream;
}

/** The other side has gone: not an error of writing, for what it said last is still to be read. */
function isGone({ code }: HostError): boolean {
  return code === 'EIO' || code === 'EPIPE' || code === 'ECONNRESET';
}

/** A call's result; `again` when it would block; 0 when there is nothing more to read (EIO is a pty master's way). */
function attempt(call: () => number, name: string, what: string): number | 'again' | HostError {
  try {
    return check(call(), name, what);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    if (error.code === 'EAGAIN' || error.code === 'EINTR') return 'again';
    if (name === 'read' && isGone(error)) return 0;
    return error;
  }
}
