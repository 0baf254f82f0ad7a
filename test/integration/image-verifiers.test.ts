// Image verifiers: real programs that are asked about each image that is pulled, well-behaved and not.
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { VerifierOptions } from '../../src/image/verifiers.ts';
import { failureOf } from '../support/cri-client.ts';
import { type Liar, startLiar } from '../support/image/liar.ts';
import { type Image, layerOf, makeImage, makeTar } from '../support/image/make-image.ts';
import { openTestImages, type TestImages } from '../support/image/open-images.ts';
import { startNode } from '../support/node.ts';

let registry: Liar;
let image: Image;
let name: string;
beforeAll(async () => {
  registry = await startLiar();
  image = makeImage([layerOf(await makeTar([{ name: 'file', content: 'content' }]))]);
  registry.addImage(image, 'v1');
  name = `${registry.address}/app:v1`;
});
afterAll(() => registry.close());

let base: string;
let directory: string;
let test: TestImages;
const open = async (over: Partial<VerifierOptions> = {}) => {
  test = await openTestImages(
    { verifiers: { directory, limit: undefined, timeoutMs: 20_000, ...over } },
    base,
  );
};
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'cri-ts-verifiers-'));
  directory = join(base, 'verifiers');
  mkdirSync(directory);
});
afterEach(() => test.remove());

/** A verifier with this name; `said` is a file that it can write to. */
function verifier(file: string, script: string): void {
  writeFileSync(join(directory, file), `#!/bin/sh\nsaid=${base}/${file}\n${script}\n`, {
    mode: 0o755,
  });
}
const said = (file: string) => readFileSync(join(base, file), 'utf8');

async function expectRefused(words: RegExp): Promise<string> {
  registry.requests.length = 0;
  const message = await test.images.pull(name).then(
    () => 'accepted',
    (error: Error) => error.message,
  );
  expect(message).toMatch(/^SignatureValidationFailed: /);
  expect(message).toContain(name);
  expect(message).toMatch(words);
  expect(test.images.list()).toEqual([]);
  expect(readdirSync(join(test.root, 'layers'))).toEqual(['empty-0', 'empty-1']);
  expect(registry.requests.filter(({ path }) => path.includes(image.layers[0]?.digest ?? ''))).toEqual([]);
  return message;
}

describe('image verifiers', () => {
  it('are asked as containerd asks them, each of them, and accept with exit code 0', async () => {
    await open();
    verifier('a', 'for word; do echo "$word"; done > "$said"; cat >> "$said"; echo "signed by me"');
    verifier('b', 'echo asked > "$said"');
    expect(await test.images.pull(name)).toBe(image.config.digest);
    const { digest, size, mediaType } = image.manifest;
    const [words, descriptor] = said('a').split(/(?=\{)/);
    expect(words?.split('\n')).toEqual([
      ...['-name', name, '-digest', digest],
      ...['-stdin-media-type', 'application/vnd.oci.descriptor.v1+json', ''],
    ]);
    expect(JSON.parse(descriptor ?? '')).toEqual({ digest, size, mediaType });
    expect(said('b')).toBe('asked\n');
  });

  it('refuse with any other exit code, before a layer is fetched, and what they print is the reason', async () => {
    await open();
    verifier('a', 'exit 0');
    verifier('b', 'echo "no signature of the vendor"; exit 7');
    await expectRefused(/verifiers\/b does not accept .*: no signature of the vendor$/);
  });

  it('are asked again when the image is pulled again', async () => {
    await open();
    verifier('a', 'exit 0');
    await test.images.pull(name);
    verifier('a', 'echo withdrawn; exit 1');
    await expect(test.images.pull(name)).rejects.toMatchObject({ kind: 'signatureInvalid' });
    expect(test.images.list()).toHaveLength(1);
  });

  it('beyond max_verifiers are not asked', async () => {
    await open({ limit: 1 });
    verifier('a', 'exit 0');
    verifier('b', 'exit 1');
    expect(await test.images.pull(name)).toBe(image.config.digest);
  });

  it('are not needed: without the directory everything is accepted', async () => {
    await open({ directory: join(base, 'absent') });
    expect(await test.images.pull(name)).toBe(image.config.digest);
  });

  it('that hang have not accepted, and are ended with all that they started', async () => {
    await open({ timeoutMs: 3000 });
    verifier('a', 'sleep 1000 & echo $$ $! > "$said"; wait');
    await expectRefused(/verifiers\/a was killed after 3000 ms/);
    for (const pid of said('a').trim().split(' '))
      await expect.poll(() => isAlive(Number(pid)), { timeout: 60_000 }).toBe(false);
  });

  it('that print without end hang like others', async () => {
    await open({ timeoutMs: 500 });
    verifier('a', 'while :; do echo more; done');
    await expectRefused(/was killed after 500 ms/);
  });

  it('that print garbage are judged by their exit code, and little of it is passed on', async () => {
    await open();
    verifier('a', 'head -c 1000000 /dev/urandom');
    expect(await test.images.pull(name)).toBe(image.config.digest);
    await test.images.remove(name);
    verifier('a', 'head -c 1000000 /dev/urandom; head -c 1000000 /dev/urandom >&2; exit 1');
    const message = await expectRefused(/\(cut off\)$/);
    expect(message.length).toBeLessThan(2000);
    expect(message).not.toMatch(/\p{Cc}/u);
  });

  it('that cannot be started, or are ended by a signal, have not accepted', async () => {
    await open();
    verifier('a', 'exit 0');
    chmodSync(join(directory, 'a'), 0o644);
    await expectRefused(/verifiers\/a could not be started: .*EACCES/);
    chmodSync(join(directory, 'a'), 0o755);
    verifier('a', 'echo half; kill -9 $$');
    await expectRefused(/verifiers\/a was ended by SIGKILL; it said: half$/);
  });

  it('that leave at once without reading are no failure of the pull', async () => {
    await open();
    verifier('a', 'exec <&-; exit 0');
    expect(await test.images.pull(name)).toBe(image.config.digest);
  });

  it('that the configuration names refuse in the words that kubelet looks for', async () => {
    await open();
    verifier('a', 'echo "not ours"; exit 1');
    const section = `[plugins."io.containerd.image-verifier.v1.bindir"]\nbin_dir = "${directory}"\n`;
    const node = await startNode({ busybox: false, config: section });
    try {
      const { code, details } = await failureOf(node.cri.PullImage({ image: { image: name } }));
      // kubelet strips the code of UNKNOWN only, and looks at the beginning of the message.
      expect(code).toBe(status.UNKNOWN);
      expect(details).toMatch(/^SignatureValidationFailed: .*: not ours$/);
    } finally {
      await node.destroy();
    }
  });
});

function isAlive(pid: number): boolean {
  try {
    // A killed process that nobody has reaped yet does nothing any more.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
