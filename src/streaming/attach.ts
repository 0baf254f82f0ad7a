// Attach: the client's streams joined with the stdio of a container's first process, which conmon holds. Any number of
// clients may come and go; what was written before one came, it does not see.
import type { Writable } from 'node:stream';
import type { ProcessIdentity, ProcessWatch } from '../host/process-watch.ts';
import type { TerminalSize } from '../host/pty.ts';
import type { Readiness } from '../host/readiness.ts';
import type { Logger } from '../log.ts';
import { type Attachment, attachToConmon, outputOf, resizeThroughConmon } from '../oci/conmon-attach.ts';
import { copy, discard } from './copy.ts';
import { followSizes } from './follow-sizes.ts';
import type { RemoteStreams } from './remote-command/streams.ts';
import type { AttachBackend } from './requests.ts';

/** A running container, as a client that attaches needs it. */
export interface AttachTarget {
  readonly id: string;
  readonly bundle: string;
  /** Its first process. */
  readonly init: ProcessIdentity | null;
  /** It has an input at all. */
  readonly stdin: boolean;
  /** The end of the first client's input is the end of its own. */
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
}

export interface AttachParts {
  readonly readiness: Readiness;
  readonly watch: ProcessWatch;
  readonly log: Logger;
  /** @throws CriError notFound, or wrongState when it does not run */
  target(containerId: string): AttachTarget;
}

/**
 * How long a client may take to read the last output of a container that has ended, in milliseconds. conmon waits for
 * its clients, and would not report the end as long as one of them does not read.
 */
const lastOutputMs = 5_000;

export function createAttachBackend({ readiness, watch, log, target: find }: AttachParts): AttachBackend {
  return {
    async attach(request, streams) {
      const target = find(request.containerId);
      const attachment = attachToConmon(target.id, target.bundle, readiness);
      let timer: NodeJS.Timeout | undefined;
      const unwatch =
        target.init &&
        watch.watch(target.init, () => {
          timer = setTimeout(() => attachment.output.destroy(), lastOutputMs);
        });
      if (target.tty) {
        const set = (size: TerminalSize) => resizeThroughConmon(target.bundle, size);
        void followSizes({ sizes: streams.sizes, set, containerId: target.id, log });
      }
      if (streams.stdin && target.stdin) feed(streams.stdin, attachment);
      else if (streams.stdin) discard(streams.stdin);
      try {
        await untilGone(handOver(attachment, streams), streams.signal);
      } finally {
        unwatch?.();
        clearTimeout(timer);
        leave(attachment, target, streams.stdin !== undefined);
      }
    },
  };
}

/** Hands the container's output to the client until the container ends. A client that reads slowly slows it down. */
async function handOver({ output }: Attachment, { stdout, stderr }: RemoteStreams): Promise<void> {
  for await (const packet of output.iterator({ destroyOnReturn: false })) {
    const part = outputOf(packet as Buffer);
    const to = part?.stream === 'stderr' ? stderr : stdout;
    if (!part || !to) continue;
    if (to.destroyed) return;
    if (!to.write(part.bytes)) await drained(to);
  }
}

function drained(stream: Writable): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}

function feed(stdin: NonNullable<RemoteStreams['stdin']>, { input }: Attachment): void {
  copy(stdin, input).catch(() => {
    input.destroy();
    discard(stdin);
  });
}

function untilGone(work: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (signal.aborted) resolve();
    work.then(resolve, error => (signal.aborted ? resolve() : reject(error)));
  });
}

/**
 * conmon ends the input of a stdin-once container when any client leaves, also one that only watched: such a client's
 * connection is kept, silent, until the container ends.
 */
function leave(attachment: Attachment, target: AttachTarget, hadInput: boolean): void {
  if (target.stdin && target.stdinOnce && !hadInput) {
    attachment.park();
    void target.ended.then(() => attachment.output.destroy());
  } else {
    attachment.output.destroy();
  }
}
