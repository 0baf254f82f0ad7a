// What is decompressed may be as large as the disk, of a few bytes of archive.
import { CriError } from '../errors.ts';

/**
 * Archives may unpack to so many times their own size, beyond a free allowance. Real layers stay below 20, also when they hold
 * large files of zeros of moderate size; gzip can reach 1000 and nested tricks far more.
 */
const maxRatio = 200;
const freeAllowance = 1024 * 1024 * 1024;

/**
 * The chunks, until they are more than may come of so many bytes. `received` is how many bytes of the archive there have been.
 * @throws CriError imageFailed naming `what`
 */
export async function* unlessBomb(
  what: string,
  chunks: AsyncIterable<Buffer>,
  received: () => number,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > freeAllowance + maxRatio * received()) {
      throw new CriError(
        'imageFailed',
        `${what} unpacks to more than ${maxRatio} times its size: it looks like a decompression bomb`,
      );
    }
    yield chunk;
  }
}
