// One layer from its source to its directory in a single pass over the bytes:
//
//     source -> hash, keep -> decompress -> hash -> tar -> files
//
// Nothing is read twice and nothing waits for the whole of anything: while the tail of a layer is still on
// the network its head is already unpacked. Runs in a worker process.
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { CriError } from '../errors.ts';
import { unlessBomb } from './bomb.ts';
import { decompress, sniffCompression } from './decompress.ts';
import type { BlobSource, LayerJob, LayerResult } from './jobs.ts';
import { fetchBlob } from './registry/fetch-blob.ts';
import type { Transport } from './registry/transport.ts';
import { createTarReader } from './tar/reader.ts';
import { createUnpacker } from './unpack.ts';

const readChunk = 256 * 1024;

export interface JobContext {
  /** The worker's connections to registries. */
  transport: Transport;
  signal: AbortSignal;
  /** Total bytes of the blob seen so far. */
  progress(bytes: number): void;
}

/**
 * Does a layer job.
 * @throws CriError imageFailed: not what digest and size promise, or not a layer; registry errors as they come.
 */
export async function runLayerJob(job: LayerJob, context: JobContext): Promise<LayerResult> {
  const intake = createIntake(job, context);
  try {
    const unpacked =
      job.unpackInto === undefined ? await drain(intake.bytes()) : await unpack(job, job.unpackInto, intake);
    const { digest, size } = intake.finish();
    return { digest, size, ...unpacked };
  } catch (error) {
    intake.close();
    if (context.signal.aborted || intake.sourceFailed() || !job.keep) throw error;
    // The bytes are at fault. What came is of no use for another attempt; and if a part of it had been lying
    // here from an earlier one, that part may be the fault, and the registry deserves to be asked for all.
    rmSync(job.keep.partial, { force: true });
    if (!intake.resumed()) throw blamed(error, job, intake);
    if (job.unpackInto !== undefined) rmSync(job.unpackInto, { recursive: true, force: true });
    return runLayerJob(job, context);
  } finally {
    intake.close();
  }
}

/** Says which layer it was, and whether it came whole: a blob that is cut short fails as damaged data first. */
function blamed(error: unknown, { digest = '', size }: LayerJob, intake: Intake): unknown {
  if (!(error instanceof CriError)) return error;
  const received = intake.received();
  if (intake.ended() && size !== undefined && received < size) return wrongSize(digest, received, size);
  if (error.message.includes(digest)) return error;
  return new CriError(error.kind, `layer ${digest}: ${error.message}`, { cause: error });
}

function wrongSize(digest: string, received: number, size: number): CriError {
  const message = `blob ${digest} has ${received} bytes, the manifest states ${size}`;
  return new CriError('imageFailed', message);
}

async function drain(bytes: AsyncIterable<Buffer>): Promise<Pick<LayerResult, 'diffId' | 'unsettled'>> {
  for await (const _ of bytes);
  return { diffId: undefined, unsettled: { implicitDirectories: [], foreignLinks: [] } };
}

interface Intake {
  /** The blob's bytes, hashed and kept as they pass. */
  bytes(): AsyncGenerator<Buffer>;
  received(): number;
  /** All bytes that there are have been received. */
  ended(): boolean;
  /** The bytes stopped coming, through no fault of theirs. */
  sourceFailed(): boolean;
  /** A part of the bytes was left by an earlier attempt. */
  resumed(): boolean;
  /** Checks what has passed and moves the kept file to its place. */
  finish(): { digest: string; size: number };
  close(): void;
}

function createIntake(job: LayerJob, context: JobContext): Intake {
  const { signal, progress } = context;
  const hash = createHash('sha256');
  let received = 0;
  let kept: number | undefined;
  let ended = false;
  let already = 0;
  let sourceFailed = false;

  async function* bytes(): AsyncGenerator<Buffer> {
    if (job.keep) {
      // What an earlier attempt left is taken first, through the same path; then the rest is asked for.
      already = sizeOf(job.keep.partial);
      kept = openSync(job.keep.partial, 'a', 0o600);
      if (already > 0) yield* pass(readFile(job.keep.partial, 0, already, signal), false);
    }
    yield* pass(watched(open(job.source, already, context)), true);
    ended = true;
  }

  async function* watched(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* source;
    } catch (error) {
      sourceFailed = true;
      throw error;
    }
  }

  async function* pass(source: AsyncIterable<Buffer>, keep: boolean): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      signal.throwIfAborted();
      received += chunk.length;
      if (job.size !== undefined && received > job.size) {
        throw new CriError(
          'imageFailed',
          `blob ${job.digest} is longer than the ${job.size} bytes that the manifest states`,
        );
      }
      hash.update(chunk);
      if (keep && kept !== undefined) writeAll(kept, chunk);
      progress(received);
      yield chunk;
    }
  }

  return {
    bytes,
    received: () => received,
    ended: () => ended,
    sourceFailed: () => sourceFailed,
    resumed: () => already > 0,
    finish() {
      if (!ended) throw new Error('a blob was not read to its end');
      const digest = `sha256:${hash.digest('hex')}`;
      if (job.size !== undefined && received !== job.size)
        throw wrongSize(job.digest ?? '', received, job.size);
      if (job.digest !== undefined && digest !== job.digest) {
        throw new CriError(
          'imageFailed',
          `blob ${job.digest} has the digest ${digest}: its content is not what the manifest names`,
        );
      }
      if (job.keep) renameSync(job.keep.partial, `${job.keep.blobs}/${digest.slice('sha256:'.length)}`);
      return { digest, size: received };
    },
    close() {
      if (kept !== undefined) closeSync(kept);
      kept = undefined;
    },
  };
}

function open(source: BlobSource, from: number, { transport, signal }: JobContext): AsyncIterable<Buffer> {
  if (source.kind === 'registry') return fetchBlob(source, from, { transport, signal });
  return readFile(source.path, source.offset + from, source.length - from, signal);
}

async function* readFile(
  path: string,
  offset: number,
  length: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  if (length <= 0) return;
  yield* createReadStream(path, {
    start: offset,
    end: offset + length - 1,
    highWaterMark: readChunk,
    signal,
  });
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function writeAll(fd: number, chunk: Buffer): void {
  for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
}

async function unpack(
  job: LayerJob,
  directory: string,
  intake: Intake,
): Promise<Pick<LayerResult, 'diffId' | 'unsettled'>> {
  const unpacker = createUnpacker(directory);
  const reader = createTarReader(unpacker);
  const hash = createHash('sha256');
  try {
    mkdirSync(directory, 0o755);
    const { compression, bytes } = await settleCompression(job, intake.bytes());
    const unpacked = decompress(bytes, compression, job.size);
    for await (const chunk of unlessBomb(`layer ${job.digest ?? ''}`, unpacked, () => intake.received())) {
      hash.update(chunk);
      reader.write(chunk);
    }
    reader.finish();
    const unsettled = unpacker.finish();
    return { diffId: `sha256:${hash.digest('hex')}`, unsettled };
  } finally {
    unpacker.abandon();
  }
}

async function settleCompression(job: LayerJob, bytes: AsyncGenerator<Buffer>) {
  if (job.compression !== 'sniff') return { compression: job.compression, bytes };
  const first = await bytes.next();
  if (first.done) return { compression: 'none' as const, bytes };
  return { compression: sniffCompression(first.value), bytes: withFirst(first.value, bytes) };
}

async function* withFirst(first: Buffer, rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  yield first;
  yield* rest;
}
