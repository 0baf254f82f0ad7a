// One blob's bytes out of a registry, in order and without a gap, whatever the connection does: a broken body
// is taken up again where it broke (Range, RFC 9110 section 14), a stalled one is given up.
import type { IncomingMessage } from 'node:http';
import { CriError, codeOf, messageOf } from '../../errors.ts';
import { backOff, createRegistryClient, unavailable } from './client.ts';
import type { Transport } from './transport.ts';
import type { RegistrySource } from './types.ts';

/** How often a body may break without `progressBytes` gained in between. */
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
  const { access, digest, size } = source;
  const client = createRegistryClient(access, transport);
  let position = from;
  let ranges = true;
  let breaks = 0;
  let brokeAt = from;
  let sender = access.registry;
  let body: IncomingMessage | undefined;
  // One watch for all bodies: many short ones are no more progress than one that trickles.
  const watch = watchProgress(access.progressTimeoutMs, error => body?.destroy(error));
  const givenUp = (error: unknown) =>
    new CriError(
      'imageFailed',
      `${unavailable}: registry host ${sender} stopped sending blob ${digest} after ${position} of ${size} bytes: ${messageOf(error)}`,
      { cause: error },
    );

  while (position < size) {
    const asked = ranges ? position : 0;
    try {
      const { response, host } = await client.blob(digest, asked, signal);
      sender = host.host;
      body = response.body;
      watch.resume();
      const began = position;
      if (response.status === 206) checkRange(response.headers['content-range'], asked);
      // A registry that ignores Range starts over; what is here already is passed over.
      let skip = response.status === 206 ? 0 : position;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        watch.received(chunk.length);
        const passed = Math.min(skip, chunk.length);
        skip -= passed;
        if (passed === chunk.length) continue;
        position += chunk.length - passed;
        yield passed === 0 ? chunk : chunk.subarray(passed);
      }
      if (position >= size) return;
      // The body ended well and the blob is short: the digest will not match; the caller says so.
      if (position === began || response.headers['content-length'] !== undefined) return;
      throw new Error('its body ended early');
    } catch (error) {
      watch.pause();
      signal.throwIfAborted();
      if (codeOf(error) === stalled) throw givenUp(error);
      if (error instanceof CriError) {
        // Some registries, and proxies before them, refuse a range of what they would send whole.
        if (asked === 0 || error.message.startsWith(unavailable)) throw error;
        ranges = false;
        continue;
      }
      if (position - brokeAt >= progressBytes) breaks = 0;
      brokeAt = position;
      if (++breaks >= maxBreaks) throw givenUp(error);
      await backOff(breaks, undefined, signal).catch(() => {}); // what ends the wait ends the next attempt
    } finally {
      watch.pause();
      body?.destroy();
      body = undefined;
    }
  }
}

const stalled = 'STALLED';

/** Watches bytes come; time counts while a body is open. */
function watchProgress(timeoutMs: number | undefined, giveUp: (error: Error) => void) {
  let inWindow = 0;
  let leftMs = timeoutMs ?? 0;
  let resumedAt = 0;
  let timer: NodeJS.Timeout | undefined;

  function check(): void {
    if (inWindow < progressBytes) {
      const message = `it sent ${inWindow} bytes within ${timeoutMs} ms (image_pull_progress_timeout)`;
      giveUp(Object.assign(new Error(message), { code: stalled }));
      return;
    }
    inWindow = 0;
    leftMs = timeoutMs ?? 0;
    resume();
  }

  function resume(): void {
    if (timeoutMs === undefined) return;
    resumedAt = performance.now();
    timer = setTimeout(check, leftMs);
  }

  return {
    received(bytes: number) {
      inWindow += bytes;
    },
    resume,
    pause() {
      if (timer === undefined) return;
      clearTimeout(timer);
      timer = undefined;
      leftMs = Math.max(0, leftMs - (performance.now() - resumedAt));
    },
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
