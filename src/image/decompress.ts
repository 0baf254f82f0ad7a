// Decompression of layers: gzip by Node's zlib, on its thread pool; zstd by Node where it has it (22.15 and
// later), else by the `zstd` program, because Node 20 has no zstd and no npm package brings one without
// fetching a binary from elsewhere.
import { spawn } from 'node:child_process';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { CriError, codeOf, messageOf } from '../errors.ts';
import type { Compression } from './media-types.ts';

const largestChunk = 256 * 1024;
const smallestChunk = 16 * 1024;

/** Output is made in chunks of this size; a small layer does not need a large one. */
function chunkFor(compressedSize: number | undefined): number {
  return Math.min(largestChunk, Math.max(smallestChunk, (compressedSize ?? largestChunk) * 2));
}
const complaintLength = 1000;

/** What the first bytes of a file say about its compression. Four bytes are enough. */
export function sniffCompression(head: Uint8Array): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return 'zstd';
  return 'none';
}

/**
 * What `source` holds, decompressed. Knowing `compressedSize` saves memory.
 * @throws CriError imageFailed when the data is corrupt or ends early; errors of `source` pass through.
 */
export function decompress(
  source: AsyncIterable<Buffer>,
  compression: Compression,
  compressedSize?: number,
): AsyncIterable<Buffer> {
  const chunkSize = chunkFor(compressedSize);
  switch (compression) {
    case 'none':
      return source;
    case 'gzip':
      return compressedSize !== undefined && compressedSize <= largestWhole
        ? gunzipWhole(source, chunkSize)
        : through(source, zlib.createGunzip({ chunkSize }), 'gzip');
    case 'zstd': {
      const builtin = builtinZstd(chunkSize);
      return builtin ? through(source, builtin, 'zstd') : throughZstdProgram(source);
    }
  }
}

/** A small layer is inflated in one call: the streaming machinery would cost more than the work. */
const largestWhole = 2 * 1024 * 1024;
const largestWholeOutput = 16 * 1024 * 1024;

async function* gunzipWhole(source: AsyncIterable<Buffer>, chunkSize: number): AsyncGenerator<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  try {
    yield zlib.gunzipSync(bytes, {
      chunkSize: sizeWithin(bytes) ?? chunkSize,
      maxOutputLength: largestWholeOutput,
    });
    return;
  } catch (error) {
    if (codeOf(error) !== 'ERR_BUFFER_TOO_LARGE') throw damaged('gzip', error);
  }
  yield* through(Readable.from([bytes]), zlib.createGunzip({ chunkSize: largestChunk }), 'gzip');
}

/**
 * The size of what gzip data holds, so that it is made in one piece: its trailer has it (RFC 1952, section 2.3.1, ISIZE).
 * undefined when the trailer cannot be right; what it says is only a size to begin with.
 */
function sizeWithin(bytes: Buffer): number | undefined {
  if (bytes.length < smallestGzip) return undefined;
  const size = bytes.readUInt32LE(bytes.length - 4);
  return size >= smallestChunk && size <= largestWholeOutput ? size : undefined;
}
const smallestGzip = 18; // header and trailer

async function* through(
  source: AsyncIterable<Buffer>,
  transform: Transform,
  format: string,
): AsyncGenerator<Buffer> {
  const feeding = pipeline(source, transform);
  feeding.catch(() => {}); // the same error comes out of the loop below
  try {
    for await (const chunk of transform) yield chunk;
    await feeding;
  } catch (error) {
    throw damaged(format, error);
  } finally {
    transform.destroy();
  }
}

/** zlib says "unexpected end of file"; this says of what. Errors of the source stay as they are. */
function damaged(format: string, error: unknown): unknown {
  if (!/^(Z_|ZSTD_)/.test(codeOf(error) ?? '')) return error;
  return new CriError('imageFailed', `the ${format} data is damaged: ${messageOf(error)}`, { cause: error });
}

type ZstdFactory = (options: { chunkSize: number }) => Transform;

function builtinZstd(chunkSize: number): Transform | undefined {
  const create: unknown = Reflect.get(zlib, 'createZstdDecompress');
  return isFactory(create) ? create({ chunkSize }) : undefined;
}

function isFactory(value: unknown): value is ZstdFactory {
  return typeof value === 'function';
}

async function* throughZstdProgram(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const child = spawn('zstd', ['--decompress', '--stdout', '--quiet', '--no-progress']);
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaint.length < complaintLength) complaint += text;
  });
  const ended = new Promise<string | undefined>(resolve => {
    child.once('error', error => {
      const missing = codeOf(error) === 'ENOENT';
      resolve(missing ? 'the zstd program is missing: install the package zstd' : messageOf(error));
    });
    child.once('close', (code, signal) =>
      resolve(
        code === 0
          ? undefined
          : `the zstd data is damaged: ${complaint.trim() || `zstd ended with ${signal ?? code}`}`,
      ),
    );
  });
  // An error of the source must win over the complaint of a program that was cut off because of it.
  let sourceError: unknown;
  const watched = (async function* () {
    try {
      yield* source;
    } catch (error) {
      sourceError = error;
      throw error;
    }
  })();
  const feeding = pipeline(watched, child.stdin).catch(() => child.kill('SIGKILL'));
  try {
    for await (const chunk of child.stdout) yield chunk;
    await feeding;
    const failure = await ended;
    if (sourceError !== undefined) throw sourceError;
    if (failure !== undefined) throw new CriError('imageFailed', failure);
  } finally {
    child.kill('SIGKILL');
  }
}
