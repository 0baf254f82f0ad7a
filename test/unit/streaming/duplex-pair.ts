// Two ends of a connection within the process, with back-pressure and small pieces, as a socket has them.
import { Duplex } from 'node:stream';

const pieceBytes = 16 * 1024;

export function duplexPair(): [Duplex, Duplex] {
  /** Goes on with the writing that waits for this end to read. */
  const wanted = new Map<Duplex, () => void>();
  const make = (peer: () => Duplex): Duplex => {
    const end: Duplex = new Duplex({
      read() {
        const goOn = wanted.get(end);
        wanted.delete(end);
        goOn?.();
      },
      write(chunk: Buffer, _encoding, done) {
        const send = (at: number): void => {
          if (at >= chunk.length || peer().destroyed) done();
          else if (peer().push(chunk.subarray(at, at + pieceBytes))) send(at + pieceBytes);
          else wanted.set(peer(), () => send(at + pieceBytes));
        };
        send(0);
      },
      final(done) {
        finish(peer());
        done();
      },
      destroy(error, done) {
        setImmediate(finish, peer());
        wanted.get(end)?.();
        done(error);
      },
    });
    end.on('error', () => {});
    return end;
  };
  const ended = new Set<Duplex>();
  const finish = (end: Duplex): void => {
    if (end.destroyed || ended.has(end)) return;
    ended.add(end);
    end.push(null);
  };
  const a: Duplex = make(() => b);
  const b: Duplex = make(() => a);
  return [a, b];
}
