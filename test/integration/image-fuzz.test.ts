// Mutated archives and manifests, for a bounded time: whatever they do, it ends in an image part or an error,
// and nothing is written outside the layer's directory. The seed is printed; FUZZ_SEED repeats a run,
// FUZZ_SECONDS makes it longer.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CriError, codeOf } from '../../src/errors.ts';
import { HostError } from '../../src/host/libc.ts';
import { decompress } from '../../src/image/decompress.ts';
import { imageConfigSchema, indexSchema, manifestSchema, parseDocument } from '../../src/image/oci.ts';
import { choosePlatform } from '../../src/image/platform.ts';
import { parseReference } from '../../src/image/reference.ts';
import { settleLayer } from '../../src/image/settle.ts';
import { createTarReader } from '../../src/image/tar/reader.ts';
import { createUnpacker } from '../../src/image/unpack.ts';
import { createFuzz } from '../support/fuzz.ts';
import { type Entry, layerOf, makeImage, makeIndex, makeTar } from '../support/image/make-image.ts';

const { seed, below, chance, pick, during } = createFuzz();

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'cri-ts-fuzz-'));
  mkdirSync(join(base, 'victim'));
  writeFileSync(join(base, 'victim/file'), 'untouched', { mode: 0o640 });
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

function expectUntouched(): void {
  expect(
    readdirSync(base).filter(name => name !== 'layer' && name !== 'lower'),
    `seed ${seed}`,
  ).toEqual(['victim']);
  expect(readdirSync(join(base, 'victim')), `seed ${seed}`).toEqual(['file']);
  const { mode, uid, nlink } = statSync(join(base, 'victim/file'));
  expect(
    [readFileSync(join(base, 'victim/file'), 'utf8'), mode & 0o7777, uid, nlink],
    `seed ${seed}`,
  ).toEqual(['untouched', 0o640, 0, 1]);
}

/** Errors that a hostile archive may end in: ours, or the kernel's answer to an impossible name. */
function isExpected(error: unknown): boolean {
  return error instanceof CriError || error instanceof HostError || codeOf(error) !== undefined;
}

/** Names and targets that aim at what matters. */
function hostileEntry(): Entry {
  // With few names entries meet one another often.
  const parts = chance(0.6)
    ? ['a', 'b', 'file']
    : [
        'a',
        'b',
        'd',
        '..',
        '.',
        '',
        'victim',
        'file',
        '.wh.a',
        '.wh..wh..opq',
        '.wh.',
        'x'.repeat(120),
        '\u00e4',
      ];
  const path = () => Array.from({ length: 1 + below(3) }, () => pick(parts)).join('/');
  const name = pick([path, path, path, () => `${base}/victim/file`, () => `/${path()}`])() || 'a';
  const linkname =
    pick([
      path,
      () => `${base}/victim`,
      () => `${base}/victim/file`,
      () => '../victim',
      () => '../../victim/file',
      () => '/',
      () => '.',
    ])() || '.';
  const type = pick([
    'file',
    'file',
    'directory',
    'symlink',
    'symlink',
    'link',
    'fifo',
    'character-device',
  ] as const);
  const common = { name, type, mode: below(0o10000), uid: below(3), gid: below(3) };
  if (type === 'file') return { ...common, content: 'x'.repeat(below(2000)) };
  if (type === 'symlink' || type === 'link') return { ...common, linkname };
  return type === 'character-device' ? { ...common, devmajor: below(2), devminor: below(5) } : common;
}

/** Mostly single entries; sometimes the classic pair of a link that leads out and something that goes through it. */
function hostileEntries(): Entry[] {
  if (chance(0.7)) return [hostileEntry()];
  const name = pick(['a', 'b', 'd/a']);
  const out = {
    name,
    type: 'symlink' as const,
    linkname: pick([`${base}/victim`, '../victim', '../../victim', `${base}/victim/file`]),
  };
  const through = pick<Entry>([
    { name: 'taken', type: 'link', linkname: `${name}/file` },
    { name: `${name}/file`, content: 'overwritten' },
    { name: `${name}/file`, type: 'link', linkname: 'lower' },
    { name: `${name}/.wh.file`, content: '' },
    { name: `${name}/new/deep`, content: '' },
    { name: `${name}/`, type: 'directory', mode: 0o777, uid: 2 },
    { name, type: 'link', linkname: name },
  ]);
  return chance(0.7) ? [out, through] : [through, out];
}

function mutate(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = below(8); i > 0; i--) {
    const at = below(copy.length);
    if (chance(0.5)) copy[at] = below(256);
    else copy.write(pick(['\0', '/', '../', '7777777', '\u0080ÿÿ', 'x', 'L', 'S', '1', '2']), at, 'latin1');
  }
  if (chance(0.1)) return copy.subarray(0, below(copy.length));
  // Headers with right checksums get further.
  for (let at = 0; at + 512 <= copy.length; at += 512) {
    if (chance(0.3) || copy.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
    copy.write('        ', at + 148, 'latin1');
    let sum = 0;
    for (const byte of copy.subarray(at, at + 512)) sum += byte;
    copy.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
  }
  return copy;
}

const unbounded = { timeout: 3_600_000 };

it('hostile and mutated archives write nothing outside the directory of their layer', unbounded, async () => {
  const layer = join(base, 'layer');
  const lower = join(base, 'lower');
  let ended = { well: 0, refused: 0 };
  const archives = await during(5, async () => {
    mkdirSync(layer);
    mkdirSync(lower);
    writeFileSync(join(lower, 'lower'), 'lower');
    const archive = await makeTar(Array.from({ length: 1 + below(6) }, hostileEntries).flat());
    const bytes = chance(0.4) ? mutate(archive) : archive;
    const unpacker = createUnpacker(layer);
    const reader = createTarReader(unpacker);
    try {
      const step = pick([1, 100, 512, 4096, bytes.length || 1]);
      for (let at = 0; at < bytes.length; at += step) reader.write(bytes.subarray(at, at + step));
      reader.finish();
      settleLayer(layer, [lower], unpacker.finish());
      ended.well++;
    } catch (error) {
      if (!isExpected(error)) throw error;
      ended = { ...ended, refused: ended.refused + 1 };
    } finally {
      unpacker.abandon();
    }
    expectUntouched();
    rmSync(layer, { recursive: true, force: true });
    rmSync(lower, { recursive: true, force: true });
  });
  console.log(`fuzzed archives: ${archives}, seed ${seed}`, ended);
  // Both ways must have been gone, or the fuzzing is not worth its name.
  expect(ended.well).toBeGreaterThan(5);
  expect(ended.refused).toBeGreaterThan(5);
});

it('mutated gzip data ends in data or in an error', unbounded, async () => {
  const original = gzipSync(await makeTar([{ name: 'a', content: 'x'.repeat(5000) }]));
  const streams = await during(1, async () => {
    const bytes = mutate(original);
    const source = async function* () {
      yield bytes;
    };
    try {
      for await (const _ of decompress(source(), 'gzip', pick([bytes.length, 10_000_000])));
    } catch (error) {
      if (!isExpected(error)) throw error;
    }
  });
  console.log(`fuzzed gzip data: ${streams}, seed ${seed}`);
});

it('mutated manifests, indexes and configs are read or refused', unbounded, async () => {
  const image = makeImage([layerOf(await makeTar([{ name: 'a', content: 'x' }]))]);
  const index = makeIndex([{ blob: image.manifest, platform: { os: 'linux', architecture: 'amd64' } }]);
  const texts = [image.manifest.bytes, index.bytes, image.config.bytes];
  const values = ['null', '[]', '{}', '-1', '1e999', '""', '"sha256:../../x"', '{"__proto__":1}', 'true'];
  const documents = await during(1, () => {
    const text = pick(texts).toString();
    const changed = chance(0.5)
      ? mutate(Buffer.from(text)).toString()
      : text.replace(/("[^"]+":)("[^"]*"|\d+|\[[^\]]*\])/g, (whole, key) =>
          chance(0.3) ? `${key}${pick(values)}` : whole,
        );
    for (const schema of [manifestSchema, indexSchema, imageConfigSchema]) {
      try {
        const document = parseDocument<unknown>(Buffer.from(changed), schema, 'a document');
        if (schema === indexSchema)
          choosePlatform(indexSchema.parse(document).manifests, { os: 'linux', architecture: 'amd64' });
      } catch (error) {
        expect(error, `${seed}: ${changed}`).toBeInstanceOf(CriError);
      }
    }
  });
  console.log(`fuzzed documents of images: ${documents}, seed ${seed}`);
});

it('random text is a reference or is refused', () => {
  const letters = [
    'a',
    'B',
    '0',
    '/',
    ':',
    '@',
    '.',
    '-',
    '_',
    '[',
    ']',
    'sha256:',
    'localhost',
    ' ',
    '\n',
    '%',
    '\u00e9',
  ];
  for (let i = 0; i < 20_000; i++) {
    const text = Array.from({ length: below(12) }, () => pick(letters)).join('');
    try {
      const { host, path } = parseReference(text);
      expect(`${host}/${path}`).not.toMatch(/\.\.\/|\/\/|\s/);
    } catch (error) {
      expect(error, text).toBeInstanceOf(CriError);
    }
  }
});
