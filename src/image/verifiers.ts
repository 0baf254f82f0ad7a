// A node's own say in which images may run: executables that are shown each image before it is unpacked, called as
// containerd calls those of its image verifier directory (containerd, docs/image-verification.md):
//
//     VERIFIER -name REFERENCE -digest DIGEST -stdin-media-type application/vnd.oci.descriptor.v1+json
//
// with the descriptor on standard input. Exit code 0 accepts; any other refuses, and standard output says why. One that
// cannot be started, or does not end in time, has not accepted.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CriError, codeOf } from '../errors.ts';
import { type RunResult, run } from '../host/process.ts';
import type { Logger } from '../log.ts';
import type { Descriptor } from './oci.ts';

export interface VerifierOptions {
  /** Every file in it is asked, in the order of the names; a missing directory means that there is none. Absolute. */
  directory: string;
  /** How many of them; undefined = all. */
  limit: number | undefined;
  /** For each. */
  timeoutMs: number;
}

/** Bytes of a verifier's output that are read; it may write more. */
const outputBytes = 32 * 1024;
/** Characters of a verifier's words that go into errors. */
const quotedLength = 1000;

/**
 * Asks every verifier about `reference`, which stands for `descriptor`.
 * @throws CriError signatureInvalid, in words that kubelet recognises, unless all of them accept
 */
export async function verifyImage(
  { directory, limit, timeoutMs }: VerifierOptions,
  reference: string,
  { mediaType, digest, size }: Descriptor,
  { signal, log }: { signal: AbortSignal; log: Logger },
): Promise<void> {
  const all = await verifiersIn(directory);
  const asked = all.slice(0, limit);
  if (asked.length < all.length) {
    log.warn(
      { directory, skipped: all.slice(asked.length) },
      'there are more image verifiers than max_verifiers',
    );
  }
  for (const name of asked) {
    const args = ['-name', reference, '-digest', digest];
    const type = ['-stdin-media-type', 'application/vnd.oci.descriptor.v1+json'];
    const result = await run(join(directory, name), [...args, ...type], {
      env: environment(),
      input: `${JSON.stringify({ mediaType, digest, size })}\n`,
      maxOutputBytes: outputBytes,
      maxErrorBytes: outputBytes,
      excessOutput: 'drop',
      timeoutMs,
      signal,
    });
    signal.throwIfAborted();
    const { exitCode, stdout, stderr } = result;
    log.debug({ verifier: name, image: reference, digest, exitCode, stdout, stderr }, 'image verifier');
    if (exitCode === 0) continue;
    throw new CriError(
      'signatureInvalid',
      `SignatureValidationFailed: image verifier ${join(directory, name)} does not accept ${reference} (${digest}): ${judgement(result)}`,
    );
  }
}

/** What the verifier gave as its reason, or else how it ended. */
function judgement({ exitCode, stdout, stderr, outcome }: RunResult): string {
  const said = quotable(stdout) || quotable(stderr);
  if (exitCode !== undefined && said) return said;
  return said ? `${outcome}; it said: ${said}` : outcome;
}

/** One line without control characters, which have no place in logs and gRPC messages. */
function quotable(words: string): string {
  const line = words.replace(/[\p{Cc}\s]+/gu, ' ').trim();
  return line.length > quotedLength ? `${line.slice(0, quotedLength)} (cut off)` : line;
}

/** Verifiers may need proxies and credentials that the node gives the daemon. */
function environment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

async function verifiersIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    const message = `SignatureValidationFailed: the image verifiers in ${directory} cannot be listed`;
    throw new CriError('signatureInvalid', `${message}: ${codeOf(error)}`, { cause: error });
  }
}
