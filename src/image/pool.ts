// The pool of worker processes that image operations run in. They are processes, not threads, so that all of
// their work, decompression on Node's own threads included, runs at a lower priority than the daemon's answers
// to RPCs; so that hostile input can exhaust or crash nothing but a worker; and so that the memory of a large
// pull goes with them. They start with the first job and end after a while without any.
import type { ChildProcess } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { CriError } from '../errors.ts';
import type { FromWorker, JobKind, Jobs } from './jobs.ts';
import { startWorker } from './worker-entry.ts';

export interface RunJobOptions {
  signal?: AbortSignal | undefined;
  /** Told from time to time how many bytes of the blob have been seen. */
  onProgress?: ((bytes: number) => void) | undefined;
  /** How many bytes there are to work on, if that is known: a worker is not started for a few. */
  bytes?: number;
}

export interface WorkerPool {
  /**
   * Runs a job on the least busy worker.
   * @throws what the job threw, CriErrors with their kind; CriError cancelled when `signal` is aborted.
   */
  run<K extends JobKind>(
    kind: K,
    input: Jobs[K]['input'],
    options?: RunJobOptions,
  ): Promise<Jobs[K]['output']>;
  /** Starts a worker, if none runs, for jobs that are sure to come. */
  prepare(): void;
  /** Ends the workers; jobs under way fail. */
  close(): Promise<void>;
}

interface Running {
  kind: JobKind;
  resolve(output: unknown): void;
  reject(error: Error): void;
  onProgress: ((bytes: number) => void) | undefined;
  bytes: number;
}

interface Member {
  worker: ChildProcess;
  jobs: Map<number, Running>;
  exited: Promise<void>;
  /** Milliseconds since the epoch until which it is kept though it has nothing to do. */
  keptUntil: number;
  end: NodeJS.Timeout | undefined;
}

const maxWorkers = 4;
/** While another worker starts, and runs what has not been compiled there yet, those there are get so much done. */
const worthAWorker = 1024 * 1024;
/** A pull is often followed by another. */
const idleMs = 60_000;
/** Measuring is asked for every few seconds for ever; a worker that waited for it would never end. */
const idleAfterMeasuringMs = 2000;

export function createWorkerPool(): WorkerPool {
  const size = Math.min(maxWorkers, Math.max(2, availableParallelism()));
  const members = new Set<Member>();
  let nextId = 1;

  function start(): Member {
    const worker = startWorker();
    const exited = new Promise<void>(resolve => worker.once('exit', () => resolve()));
    const member: Member = { worker, jobs: new Map(), exited, keptUntil: 0, end: undefined };
    worker.on('message', message => receive(member, message as FromWorker));
    worker.on('error', error => fail(member, error.message));
    worker.on('exit', (code, signal) => fail(member, `it ended with ${signal ?? `code ${code}`}`));
    hold(member, false);
    members.add(member);
    return member;
  }

  /** A worker keeps this process alive only while it has something to do. */
  function hold({ worker }: Member, busy: boolean): void {
    if (busy) {
      worker.ref();
      worker.channel?.ref();
    } else {
      worker.unref();
      worker.channel?.unref();
    }
  }

  function fail(member: Member, why: string): void {
    members.delete(member);
    for (const job of member.jobs.values())
      job.reject(new CriError('imageFailed', `an image worker failed: ${why}`));
    member.jobs.clear();
  }

  function receive(member: Member, message: FromWorker): void {
    const job = member.jobs.get(message.id);
    if (!job) return;
    if (message.type === 'progress') {
      job.onProgress?.(message.bytes);
      return;
    }
    member.jobs.delete(message.id);
    if (member.jobs.size === 0) rest(member, job.kind === 'measure' ? idleAfterMeasuringMs : idleMs);
    if (message.type === 'done') job.resolve(message.output);
    else job.reject(rebuild(message));
  }

  function rest(member: Member, keptMs: number): void {
    hold(member, false);
    member.keptUntil = Math.max(member.keptUntil, Date.now() + keptMs);
    clearTimeout(member.end);
    member.end = setTimeout(end, member.keptUntil - Date.now(), member);
    member.end.unref();
  }

  function end(member: Member): void {
    clearTimeout(member.end);
    members.delete(member);
    member.worker.kill('SIGKILL');
  }

  const bytesBefore = ({ jobs }: Member): number =>
    [...jobs.values()].reduce((sum, job) => sum + job.bytes, 0);

  /** The member for a job of so many bytes. */
  function choose(bytes: number): Member {
    const [first, ...others] = members;
    if (!first) return start();
    const best = others.reduce((a, b) => (bytesBefore(b) < bytesBefore(a) ? b : a), first);
    const isSoonDone = best.jobs.size === 0 || bytesBefore(best) + bytes < worthAWorker;
    return isSoonDone || members.size === size ? best : start();
  }

  return {
    run(kind, input, { signal, onProgress, bytes = worthAWorker } = {}) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(cancelled());
        const id = nextId++;
        const member = choose(bytes);
        const cancel = () => member.worker.send({ id, kind: 'cancel' });
        const done = () => signal?.removeEventListener('abort', cancel);
        clearTimeout(member.end);
        member.jobs.set(id, {
          kind,
          // The worker's handler of this kind made it; src/image/jobs.ts ties the two.
          resolve: output => {
            done();
            resolve(output as Jobs[typeof kind]['output']);
          },
          reject: error => {
            done();
            reject(signal?.aborted ? cancelled() : error);
          },
          onProgress,
          bytes,
        });
        hold(member, true);
        signal?.addEventListener('abort', cancel, { once: true });
        member.worker.send({ id, kind, input });
      });
    },
    prepare() {
      if (members.size === 0) rest(start(), idleMs);
    },
    async close() {
      await Promise.all(
        [...members].map(member => {
          hold(member, true);
          end(member);
          return member.exited;
        }),
      );
    },
  };
}

function cancelled(): CriError {
  return new CriError('cancelled', 'the image operation was cancelled');
}

function rebuild({ message, kind, code }: FromWorker & { type: 'failed' }): Error {
  if (kind !== undefined) return new CriError(kind, message);
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}
