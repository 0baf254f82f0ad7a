// One blob's bytes out of a registry, in order and without a gap, whatever the connection does: a broken body
// is taken up again where it broke (Range, RFC 9110 section 14), a stalled one is given up.
import { CriError, codeOf, messageOf } from '../../errors.ts';
import { createRegistryClient, unavailable } from './client.ts';
import type { Transport } from './transport.ts';
import type { RegistrySource } from './types.ts';

/** How often a body may break without a byte gained in between. */
const maxBreaks = 4;
/** Less than this within the progress timeout is a trickle, not progress. */
const progressBytes = 64 * 1024;

/**
 * The bytes of `source` from `from` on. They are not verified here.
 * @throws CriError: notFound, unauthenticated, ...; `RegistryUnavailable` when it stalls or keeps breaking.
 */
export async function* fetchBlob(
  source: RegistrySource,
  from: number,
  { transport, signal }: { transport: Transport; signal: AbortSignal },
): AsyncGenerator<Buffer> {
  const client = createRegistryClient(source.access, transport);
  let position = from;
  let breaks = 0;
  while (position < source.size) {
    const { response, host } = await client.blob(source.digest, position, signal);
    const watch = watchProgress(source.access.progressTimeoutMs, error => response.body.destroy(error));
    // A registry that ignores Range starts over; what is here already is passed over.
    let skip = response.status === 206 ? 0 : position;
    const began = position;
    try {
      if (response.status === 206) checkRange(response.headers['content-range'], position);
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        watch.received(chunk.length);
        const passed = Math.min(skip, chunk.length);
        skip -= passed;
        if (passed === chunk.length) continue;
        position += chunk.length - passed;
        yield passed === 0 ? chunk : chunk.subarray(passed);
      }
      // The body ended well and the blob is short: the digest will not match; the caller says so.
      if (position === began || response.headers['content-length'] !== undefined) return;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CriError) throw error;
      breaks = position > began ? 0 : breaks + 1;
      if (breaks >= maxBreaks || codeOf(error) === stalled) {
        throw new CriError(
          'imageFailed',
          `${unavailable}: registry host ${host.host} stopped sending blob ${source.digest} after ${position} of ${source.size} bytes: ${messageOf(error)}`,
          { cause: error },
        );
      }
    } finally {
      watch.stop();
      response.body.destroy();
    }
  }
}

const stalled = 'STALLED';

function watchProgress(timeoutMs: number | undefined, giveUp: (error: Error) => void) {
  let inWindow = 0;
  const check = () => {
    if (inWindow >= progressBytes) inWindow = 0;
    else {
      const error = new Error(
        `it sent ${inWindow} bytes within ${timeoutMs} ms (image_pull_progress_timeout)`,
      );
      giveUp(Object.assign(error, { code: stalled }));
    }
  };
  const timer = timeoutMs === undefined ? undefined : setInterval(check, timeoutMs);
  return {
    received(bytes: number) {
      inWindow += bytes;
    },
    stop: () => clearInterval(timer),
  };
}

function checkRange(header: string | undefined, position: number): void {
  const match = /^bytes ([0-9]+)-/.exec(header ?? '');
  if (match && Number(match[1]) === position) return;
  throw new CriError(
    'imageFailed',
    `the registry was asked for bytes from ${position} on and answered with ${header ?? 'no Content-Range'}`,
  );
}
