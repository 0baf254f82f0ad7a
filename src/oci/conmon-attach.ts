// Attaches to a container's stdio through its conmon, by the socket and the fifo that conmon makes in the bundle
// (containers/conmon, src/conn_sock.c and src/ctrl.c). Any number may be attached at the same time.
import { type Duplex, Transform, type Writable } from 'node:stream';
import { CriError, codeOf, messageOf } from '../errors.ts';
import { openFdStream } from '../host/fd-stream.ts';
import type { TerminalSize } from '../host/pty.ts';
import type { Readiness } from '../host/readiness.ts';
import { connectPacketSocket, shutdownRead, shutdownWrite } from '../host/unix-socket.ts';
import { tellConmon } from './conmon.ts';

export interface Attachment {
  /** Packets of output: a first byte that tells the stream (`outputOf`), then the bytes. Ends with the container. */
  readonly output: Duplex;
  /** The container's standard input. Its end is conmon's to judge: it closes the container's input when that is stdin-once. */
  readonly input: Writable;
  /** Takes no more output, and holds the connection, for conmon takes a client's leaving for the end of the input. */
  park(): void;
}

/** A packet's first byte (STDOUT_PIPE, STDERR_PIPE). */
const [stdoutMark, stderrMark] = [2, 3];
/** conmon sends up to 8 KiB and the mark. */
const packetBytes = 16 * 1024;
/** conmon takes up to 32 KiB at a time; what is beyond in a packet would be lost. */
const maxInputPacket = 8 * 1024;
const maxCells = 1000; // conmon refuses more

/** @throws CriError unavailable when its conmon does not answer */
export function attachToConmon(containerId: string, bundle: string, readiness: Readiness): Attachment {
  let fd: number;
  try {
    fd = connectPacketSocket(bundle, 'attach');
  } catch (error) {
    throw new CriError(
      'unavailable',
      `container ${containerId} cannot be attached to: its monitor (conmon) does not answer: ${messageOf(error)}`,
    );
  }
  const socket = openFdStream(fd, readiness, {
    what: `the attach socket of container ${containerId}`,
    packets: true,
    readBytes: packetBytes,
    onEnd: shutdownWrite,
  });
  socket.on('error', () => {});
  const input = inPackets();
  input.pipe(socket);
  return {
    output: socket,
    input,
    park() {
      shutdownRead(fd); // conmon's next write fails, and it writes no more to us
    },
  };
}

export function outputOf(packet: Buffer): { stream: 'stdout' | 'stderr'; bytes: Buffer } | undefined {
  const bytes = packet.subarray(1);
  if (packet[0] === stdoutMark) return { stream: 'stdout', bytes };
  if (packet[0] === stderrMark) return { stream: 'stderr', bytes };
  return undefined;
}

function inPackets(): Transform {
  return new Transform({
    readableObjectMode: true,
    transform(chunk: Buffer, _encoding, done) {
      for (let at = 0; at < chunk.length; at += maxInputPacket)
        this.push(chunk.subarray(at, at + maxInputPacket));
      done();
    },
  });
}

/**
 * Sets the size of the container's terminal. No errors are a container that has ended, which has none (ENXIO, ENOENT), and
 * a conmon that waits for a client to read and looks at nothing else meanwhile (EAGAIN, once its fifo is full): then the
 * terminal keeps the size it has. @throws what else hinders it, such as a want of descriptors
 */
export function resizeThroughConmon(bundle: string, { width, height }: TerminalSize): void {
  try {
    tellConmon(bundle, `1 ${Math.min(height, maxCells)} ${Math.min(width, maxCells)}\n`);
  } catch (error) {
    if (!['ENXIO', 'ENOENT', 'EAGAIN'].includes(codeOf(error) ?? '')) throw error;
  }
}
