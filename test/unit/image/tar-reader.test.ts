import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createTarReader, type TarHeader } from '../../../src/image/tar/reader.ts';
import { makeTar } from '../../support/image/make-image.ts';

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'cri-ts-tar-'));
  directories.push(directory);
  return directory;
}

interface Read {
  header: TarHeader;
  content: Buffer;
}

/** Reads an archive in pieces of `step` bytes; holes become zeros. */
function readAll(archive: Buffer, step = archive.length): Read[] {
  const entries: Read[] = [];
  const reader = createTarReader({
    entry(header) {
      entries.push({ header, content: Buffer.alloc(header.size) });
    },
    data(chunk, position) {
      const current = entries.at(-1);
      if (current) chunk.copy(current.content, position);
    },
    end() {},
  });
  for (let at = 0; at < archive.length; at += step) reader.write(archive.subarray(at, at + step));
  reader.finish();
  return entries;
}

/** Rewrites a header field and its checksum. */
function patch(archive: Buffer, at: number, value: string | Buffer): Buffer {
  const copy = Buffer.from(archive);
  copy.write(value.toString('latin1'), at, 'latin1');
  copy.write('        ', 148, 'latin1');
  let sum = 0;
  for (const byte of copy.subarray(0, 512)) sum += byte;
  copy.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return copy;
}

describe('the tar reader', () => {
  it.each([
    ['1', 'x', 'hardlink'],
    ['2', 'x', 'symlink'],
    ['3', 'x', 'char'],
    ['4', 'x', 'block'],
    ['5', 'x', 'directory'],
    ['6', 'x', 'fifo'],
    ['\0', 'x/', 'directory'],
  ])('reads no contents for an entry of type %j, whatever its size says', async (flag, name, type) => {
    const archive = await makeTar([{ name, content: '' }]);
    const first = patch(patch(archive.subarray(0, 512), 156, flag), 124, '00000004000\0');
    const rest = await makeTar([{ name: 'next', content: 'n' }]);
    const read = readAll(Buffer.concat([first, rest]));
    expect(read.map(({ header }) => [header.type, header.name, header.size])).toEqual([
      [type, name, 0],
      ['file', 'next', 1],
    ]);
  });

  it('reads the same entries however the stream is cut', async () => {
    const archive = await makeTar([
      { name: 'd/', type: 'directory', mode: 0o755 },
      { name: 'd/a', content: 'hello', mode: 0o4755, uid: 7, gid: 8 },
      { name: 'd/l', type: 'symlink', linkname: 'a' },
      { name: 'd/h', type: 'link', linkname: 'd/a' },
      { name: `d/${'n'.repeat(300)}`, content: Buffer.alloc(1500, 'x') },
    ]);
    const whole = readAll(archive);
    expect(whole.map(({ header }) => [header.type, header.name.slice(0, 5)])).toEqual([
      ['directory', 'd/'],
      ['file', 'd/a'],
      ['symlink', 'd/l'],
      ['hardlink', 'd/h'],
      ['file', 'd/nnn'],
    ]);
    expect(whole[1]?.header).toMatchObject({ mode: 0o4755, uid: 7, gid: 8, size: 5 });
    expect(whole[1]?.content.toString()).toBe('hello');
    for (const step of [1, 7, 511, 512, 513, 4096]) expect(readAll(archive, step)).toEqual(whole);
  });

  it('reads PAX names, times, owners and binary attributes', async () => {
    const [entry] = readAll(
      await makeTar([
        {
          name: 'x',
          content: 'y',
          pax: {
            path: 'päx/näme',
            mtime: '1700000000.123456789',
            uid: '3000000',
            'SCHILY.xattr.user.k': 'v\n=w',
          },
        },
      ]),
    );
    expect(Buffer.from(entry?.header.name ?? '', 'latin1').toString()).toBe('päx/näme');
    expect(entry?.header.mtimeNs).toBe(1_700_000_000_123_456_789n);
    expect(entry?.header.uid).toBe(3_000_000);
    expect(entry?.header.xattrs.get('user.k')?.toString()).toBe('v\n=w');
  });

  it.each(['gnu', 'posix', 'oldgnu', 'ustar', 'v7'])('reads what GNU tar writes in format %s', format => {
    const directory = scratch();
    const name = format === 'v7' || format === 'ustar' ? 'short' : 'l'.repeat(180);
    writeFileSync(join(directory, name), 'content');
    const archive = execFileSync('tar', ['-C', directory, `--format=${format}`, '-cf', '-', name]);
    expect(readAll(archive).map(({ header, content }) => [header.name, content.toString()])).toEqual([
      [name, 'content'],
    ]);
  });

  it.each([
    ['gnu', []],
    ['posix', ['--sparse-version=0.0']],
    ['posix', ['--sparse-version=0.1']],
    ['posix', ['--sparse-version=1.0']],
  ])('reads sparse files of format %s %j', (format, options) => {
    const directory = scratch();
    const path = join(directory, 'sparse');
    const expected = Buffer.alloc(3_000_000);
    for (let i = 0; i < 30; i++) expected.write(`piece ${i}`, i * 90_000);
    writeFileSync(path, '');
    truncateSync(path, expected.length);
    execFileSync('dd', [`of=${path}`, 'conv=notrunc,sparse', 'bs=4096', 'status=none'], { input: expected });
    const archive = execFileSync('tar', [
      '-C',
      directory,
      `--format=${format}`,
      '--sparse',
      ...options,
      '-cf',
      '-',
      'sparse',
    ]);
    expect(archive.length).toBeLessThan(expected.length / 2);
    for (const step of [archive.length, 1000]) {
      const [entry] = readAll(archive, step);
      expect(entry?.header).toMatchObject({ name: 'sparse', sparse: true, size: expected.length });
      expect(entry?.content.equals(expected)).toBe(true);
    }
  });

  it('refuses a stream that ends inside an entry, a wrong checksum and an empty stream', async () => {
    const archive = await makeTar([{ name: 'a', content: Buffer.alloc(2000) }]);
    expect(() => readAll(archive.subarray(0, 1500))).toThrow(/ends in the middle/);
    expect(() => readAll(archive.subarray(0, 300))).toThrow(/ends in the middle/);
    const wrong = Buffer.from(archive);
    wrong[0] = 0x62;
    expect(() => readAll(wrong)).toThrow(/checksum/);
    expect(() => readAll(Buffer.alloc(0))).toThrow(/empty/);
  });

  it('refuses sizes and extensions without bound', async () => {
    const archive = await makeTar([{ name: 'a', content: 'x' }]);
    expect(() =>
      readAll(
        patch(
          archive,
          124,
          Buffer.from([0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
      ),
    ).toThrow(/out of range/);
    const longName = patch(patch(archive, 156, 'L'), 124, '77777777777 ');
    expect(() => readAll(longName)).toThrow(/extension header of/);
    const extension = patch(patch(archive, 156, 'x'), 124, '00000000000 ').subarray(0, 512);
    expect(() => readAll(Buffer.concat(Array.from({ length: 40 }, () => extension)))).toThrow(
      /more than 16 extension headers/,
    );
  });

  it('lets a seekable source skip contents', async () => {
    const archive = await makeTar([
      { name: 'a', content: Buffer.alloc(5000, 'a') },
      { name: 'b', content: 'b' },
    ]);
    const names: string[] = [];
    const reader = createTarReader({ entry: header => names.push(header.name), data() {}, end() {} });
    reader.write(archive.subarray(0, 512));
    const skip = reader.skippable();
    expect(skip).toBe(5120);
    reader.skipped(skip);
    reader.write(archive.subarray(512 + skip));
    reader.finish();
    expect(names).toEqual(['a', 'b']);
  });
});
