// Layers into directories: what each kind of entry becomes, and that hostile archives reach nothing outside.
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { getXattr, listXattrs, setXattr } from '../../src/host/files-ffi.ts';
import { settleLayer } from '../../src/image/settle.ts';
import { createTarReader } from '../../src/image/tar/reader.ts';
import { createUnpacker, type Unsettled } from '../../src/image/unpack.ts';
import { type Entry, makeTar } from '../support/image/make-image.ts';

let base: string;
let layer: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'cri-ts-unpack-'));
  layer = join(base, 'layer');
  mkdirSync(layer);
});
afterEach(() => rmSync(base, { recursive: true }));

async function unpack(entries: readonly Entry[], into = layer): Promise<Unsettled> {
  const unpacker = createUnpacker(into);
  const reader = createTarReader(unpacker);
  try {
    reader.write(await makeTar(entries));
    reader.finish();
    return unpacker.finish();
  } finally {
    unpacker.abandon();
  }
}

const at = (path: string) => join(layer, path);
const isWhiteout = (path: string) =>
  lstatSync(at(path)).isCharacterDevice() && lstatSync(at(path)).rdev === 0;
const isOpaque = (path: string) => getXattr(at(path), 'trusted.overlay.opaque')?.toString() === 'y';

describe('unpacking a layer', () => {
  it.each([
    ['-86400', -86_400_000_000_000n],
    ['-1.5', -1_500_000_000n],
    ['0', 0n],
    ['1.000000001', 1_000_000_001n],
  ])('keeps the time %s of files and directories', async (time, nanoseconds) => {
    await unpack([
      { name: 'd/', type: 'directory', pax: { mtime: time } },
      { name: 'd/f', content: 'x', pax: { mtime: time } },
    ]);
    const times = ['d', 'd/f'].map(path => lstatSync(at(path), { bigint: true }).mtimeNs);
    expect(times).toEqual([nanoseconds, nanoseconds]);
  });

  it('makes files, directories, links, devices and fifos with their owners, modes and times', async () => {
    const mtime = new Date(1_234_567_890_000);
    await unpack([
      { name: './', type: 'directory', mode: 0o750, mtime },
      { name: 'd/', type: 'directory', mode: 0o1777, uid: 5, gid: 6, mtime },
      { name: 'd/suid', content: 'x', mode: 0o4755, uid: 1, gid: 2, mtime },
      { name: 'd/wide', content: 'x', mode: 0o666, mtime },
      { name: 'd/soft', type: 'symlink', linkname: '/etc/passwd', uid: 9, mtime },
      { name: 'd/hard', type: 'link', linkname: 'd/suid' },
      { name: 'd/null', type: 'character-device', devmajor: 1, devminor: 3, mode: 0o666 },
      { name: 'd/disk', type: 'block-device', devmajor: 259, devminor: 300, mode: 0o600 },
      { name: 'd/pipe', type: 'fifo', mode: 0o622, mtime },
    ]);
    expect(statSync(layer).mode & 0o7777).toBe(0o750);
    const directory = statSync(at('d'));
    expect([directory.mode & 0o7777, directory.uid, directory.gid, directory.mtime]).toEqual([
      0o1777,
      5,
      6,
      mtime,
    ]);
    const suid = statSync(at('d/suid'));
    expect([suid.mode & 0o7777, suid.uid, suid.gid, suid.nlink, suid.mtime]).toEqual([
      0o4755,
      1,
      2,
      2,
      mtime,
    ]);
    expect(statSync(at('d/hard')).ino).toBe(suid.ino);
    expect(statSync(at('d/wide')).mode & 0o7777).toBe(0o666);
    const soft = lstatSync(at('d/soft'));
    expect([readlinkSync(at('d/soft')), soft.uid, soft.mtime]).toEqual(['/etc/passwd', 9, mtime]);
    expect(statSync(at('d/null'))).toMatchObject({ rdev: (1 << 8) | 3 });
    const disk = execFileSync('stat', ['-c', '%F %t %T %a', at('d/disk')], { encoding: 'utf8' }).trim();
    expect(disk).toBe('block special file 103 12c 600');
    expect(lstatSync(at('d/pipe')).isFIFO()).toBe(true);
    expect(lstatSync(at('d/pipe')).mode & 0o777).toBe(0o622);
  });

  it('keeps nanoseconds, names that are no UTF-8, and capabilities', async () => {
    // cap_net_raw+ep, as setcap writes it.
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    await unpack([
      {
        name: 'capable',
        content: 'x',
        uid: 3,
        mode: 0o755,
        pax: {
          mtime: '1700000000.123456789',
          'SCHILY.xattr.security.capability': capability.toString('latin1'),
          'SCHILY.xattr.user.note': 'hi',
        },
      },
    ]);
    expect(lstatSync(at('capable'), { bigint: true }).mtimeNs).toBe(1_700_000_000_123_456_789n);
    expect(getXattr(at('capable'), 'security.capability')).toEqual(capability);
    expect(getXattr(at('capable'), 'user.note')?.toString()).toBe('hi');

    // GNU tar writes the bytes of a name as they are.
    const odd = Buffer.concat([Buffer.from(`${base}/src/`), Buffer.from([0xff, 0x61])]);
    mkdirSync(join(base, 'src'));
    writeFileSync(odd, 'odd');
    const archive = execFileSync('tar', ['-C', join(base, 'src'), '-cf', '-', '.']);
    const unpacker = createUnpacker(layer);
    const reader = createTarReader(unpacker);
    reader.write(archive);
    reader.finish();
    unpacker.finish();
    expect(readdirSync(layer, 'buffer').some(name => name.equals(Buffer.from([0xff, 0x61])))).toBe(true);
  });

  it('turns whiteouts and opaque marks into the form of overlayfs', async () => {
    await unpack([
      { name: 'a/', type: 'directory' },
      { name: 'a/.wh.gone', content: '' },
      { name: 'b/', type: 'directory' },
      { name: 'b/.wh..wh..opq', content: '' },
      { name: 'b/new', content: 'x' },
      { name: '.wh..wh.plnk/', type: 'directory' },
    ]);
    expect(isWhiteout('a/gone')).toBe(true);
    expect(isOpaque('b')).toBe(true);
    expect(readdirSync(at('b'))).toEqual(['new']);
    expect(existsSync(at('.wh..wh.plnk'))).toBe(false);
  });

  it('hides only lower layers when a whiteout and an entry have one name, in either order', async () => {
    await unpack([
      { name: 'first/', type: 'directory' },
      { name: 'first/x', content: '1' },
      { name: '.wh.first', content: '' },
      { name: '.wh.second', content: '' },
      { name: 'second/', type: 'directory' },
      { name: '.wh.file', content: '' },
      { name: 'file', content: '2' },
      { name: '.wh.under', content: '' },
      { name: 'under/x', content: '3' },
    ]);
    expect([isOpaque('first'), isOpaque('second'), isOpaque('under')]).toEqual([true, true, true]);
    expect(readFileSync(at('first/x'), 'utf8')).toBe('1');
    expect(readFileSync(at('file'), 'utf8')).toBe('2');
  });

  it('lets the last of several entries of one name win, whatever their kinds', async () => {
    await unpack([
      { name: 'a', content: 'old' },
      { name: 'a', content: 'new' },
      { name: 'b/', type: 'directory' },
      { name: 'b/c', content: 'x' },
      { name: 'b', type: 'symlink', linkname: 'a' },
      { name: 'd', content: 'x' },
      { name: 'd/', type: 'directory', mode: 0o700 },
      { name: 'd/e', content: 'y' },
    ]);
    expect(readFileSync(at('a'), 'utf8')).toBe('new');
    expect(readlinkSync(at('b'))).toBe('a');
    expect(readFileSync(at('d/e'), 'utf8')).toBe('y');
  });

  it('takes trusted attributes and those of overlay from nobody', async () => {
    await unpack([
      {
        name: 'd/',
        type: 'directory',
        pax: {
          'SCHILY.xattr.trusted.overlay.redirect': '/etc',
          'SCHILY.xattr.trusted.other': 'x',
          'SCHILY.xattr.user.overlay.opaque': 'y',
        },
      },
    ]);
    expect(listXattrs(at('d'))).toEqual([]);
  });
});

describe('a hostile layer', () => {
  let victim: string;
  beforeEach(() => {
    victim = join(base, 'victim');
    mkdirSync(victim);
    writeFileSync(join(victim, 'file'), 'untouched');
  });
  const untouched = () =>
    readdirSync(victim).length === 1 && readFileSync(join(victim, 'file'), 'utf8') === 'untouched';

  it('with absolute names stays inside', async () => {
    await unpack([{ name: `${base}/victim/file`, content: 'overwritten' }]);
    expect(untouched()).toBe(true);
    expect(readFileSync(join(layer, base, 'victim/file'), 'utf8')).toBe('overwritten');
  });

  it.each(['../victim/file', 'a/../../victim/file', '/../victim/file'])(
    'with the climbing name %s is refused',
    async name => {
      await expect(unpack([{ name, content: 'x' }])).rejects.toThrow(/climbs out of the image/);
      expect(untouched()).toBe(true);
    },
  );

  it.each([
    ['an absolute link', () => victim],
    ['a climbing link', () => '../victim'],
    ['a link of many levels', () => '../../../../../../../../../../../../tmp'],
  ])('that writes through %s writes inside', async (_, target) => {
    await unpack([
      { name: 'link', type: 'symlink', linkname: target() },
      { name: 'link/file', content: 'x' },
      { name: 'link/sub/deep', content: 'x' },
    ]);
    expect(untouched()).toBe(true);
    expect(readlinkSync(at('link'))).toBe(target());
  });

  it('cannot overwrite through a link that has the name of the file', async () => {
    await unpack([
      { name: 'out', type: 'symlink', linkname: join(victim, 'file') },
      { name: 'out', content: 'x' },
    ]);
    expect(untouched()).toBe(true);
    expect(lstatSync(at('out')).isFile()).toBe(true);
  });

  it('cannot change the mode or owner of what a link leads to', async () => {
    const before = statSync(join(victim, 'file'));
    await unpack([{ name: 'out', type: 'symlink', linkname: join(victim, 'file'), mode: 0o777, uid: 77 }]);
    const after = statSync(join(victim, 'file'));
    expect([after.mode, after.uid]).toEqual([before.mode, before.uid]);
  });

  it('cannot take a file of the host by a hard link', async () => {
    await unpack([{ name: 'up', type: 'symlink', linkname: victim }]);
    const inside = await unpack([{ name: 'stolen', type: 'link', linkname: 'up/file' }]);
    expect(existsSync(at('stolen'))).toBe(false);
    expect(inside.foreignLinks).toHaveLength(1);
    await expect(unpack([{ name: 'stolen', type: 'link', linkname: '../victim/file' }])).rejects.toThrow(
      /climbs out/,
    );
    expect(statSync(join(victim, 'file')).nlink).toBe(1);
  });

  it('with a circle of links or a file as a directory is refused', async () => {
    await expect(
      unpack([
        { name: 'a', type: 'symlink', linkname: 'b' },
        { name: 'b', type: 'symlink', linkname: 'a' },
        { name: 'a/x', content: 'x' },
      ]),
    ).rejects.toThrow(/circle of symbolic links/);
    await expect(
      unpack([
        { name: 'f', content: 'x' },
        { name: 'f/x', content: 'x' },
      ]),
    ).rejects.toThrow(/is not a directory/);
  });

  it('with a whiteout of nothing or of its parent is refused', async () => {
    await expect(unpack([{ name: '.wh.', content: '' }])).rejects.toThrow(/whiteout of nothing/);
    await expect(unpack([{ name: 'd/.wh...', content: '' }])).rejects.toThrow(/whiteout of nothing/);
  });
});

describe('settling a layer on those below', () => {
  let lower: string;
  let lowest: string;
  beforeEach(async () => {
    lower = join(base, 'lower');
    lowest = join(base, 'lowest');
    mkdirSync(lower);
    mkdirSync(lowest);
  });

  it('gives directories that the archive does not mention the attributes they have below', async () => {
    await unpack(
      [
        { name: 'tmp/', type: 'directory', mode: 0o1777, uid: 4 },
        { name: 'hidden/', type: 'directory', mode: 0o700 },
      ],
      lowest,
    );
    setXattr(join(lowest, 'tmp'), 'user.note', Buffer.from('n'));
    await unpack([{ name: '.wh.hidden', content: '' }], lower);
    const unsettled = await unpack([
      { name: 'tmp/x', content: '' },
      { name: 'hidden/x', content: '' },
    ]);
    settleLayer(layer, [lower, lowest], unsettled);
    expect(statSync(at('tmp'))).toMatchObject({ uid: 4 });
    expect(statSync(at('tmp')).mode & 0o7777).toBe(0o1777);
    expect(getXattr(at('tmp'), 'user.note')?.toString()).toBe('n');
    expect(statSync(at('hidden')).mode & 0o7777).toBe(0o755);
  });

  it('copies up the target of a hard link that is in a lower layer', async () => {
    await unpack(
      [
        { name: 'bin/', type: 'directory', mode: 0o711 },
        { name: 'bin/tool', content: 'tool', mode: 0o4755, uid: 2 },
      ],
      lowest,
    );
    const unsettled = await unpack([{ name: 'bin/alias', type: 'link', linkname: 'bin/tool' }]);
    settleLayer(layer, [lower, lowest], unsettled);
    const [tool, alias] = [statSync(at('bin/tool')), statSync(at('bin/alias'))];
    expect(alias.ino).toBe(tool.ino);
    expect([tool.mode & 0o7777, tool.uid]).toEqual([0o4755, 2]);
    expect(statSync(at('bin')).mode & 0o777).toBe(0o711);
    expect(readFileSync(at('bin/alias'), 'utf8')).toBe('tool');
  });

  it.each(['block-device', 'character-device'] as const)('copies up a %s of large numbers', async type => {
    await unpack([{ name: 'device', type, devmajor: 4000, devminor: 70_000 }], lower);
    const unsettled = await unpack([{ name: 'alias', type: 'link', linkname: 'device' }]);
    settleLayer(layer, [lower], unsettled);
    expect(statSync(at('alias')).rdev).toBe(statSync(join(lower, 'device')).rdev);
  });

  it('copies up no more of a sparse file than its contents', async () => {
    const size = 64 * 1024 ** 2;
    const big = openSync(join(lower, 'big'), 'w');
    for (const position of [70_000, size / 2, size - 5]) writeSync(big, 'data', position);
    ftruncateSync(big, size);
    closeSync(big);
    writeFileSync(join(lower, 'hole'), '');
    truncateSync(join(lower, 'hole'), size);
    const unsettled = await unpack([
      { name: 'alias', type: 'link', linkname: 'big' },
      { name: 'nothing', type: 'link', linkname: 'hole' },
    ]);
    settleLayer(layer, [lower], unsettled);
    for (const name of ['alias', 'nothing']) {
      const { size: copied, blocks } = statSync(at(name));
      expect(copied).toBe(size);
      expect(blocks * 512).toBeLessThan(1024 ** 2);
    }
    execFileSync('cmp', [join(lower, 'big'), at('alias')]);
  });

  it('is not led out of the layer by links that stand where a hard link or its target should be', async () => {
    const victim = join(base, 'victim');
    mkdirSync(victim);
    writeFileSync(join(victim, 'file'), 'untouched');
    const throughTarget = await unpack([
      { name: 'up', type: 'symlink', linkname: victim },
      { name: 'stolen', type: 'link', linkname: 'up/file' },
    ]);
    expect(() => settleLayer(layer, [lower], throughTarget)).toThrow(/is in no layer|is not a directory/);
    expect(existsSync(at('stolen'))).toBe(false);
    rmSync(layer, { recursive: true });
    mkdirSync(layer);
    await unpack([{ name: 'tool', content: 'tool' }], lower);
    const throughName = await unpack([
      { name: 'd/alias', type: 'link', linkname: 'tool' },
      { name: 'd', type: 'symlink', linkname: victim },
    ]);
    settleLayer(layer, [lower], throughName);
    expect(readdirSync(victim)).toEqual(['file']);
    expect(statSync(join(victim, 'file')).nlink).toBe(1);
  });

  it('refuses a hard link to what no layer holds', async () => {
    const unsettled = await unpack([{ name: 'alias', type: 'link', linkname: 'nowhere' }]);
    expect(() => settleLayer(layer, [lower, lowest], unsettled)).toThrow(/which is in no layer of the image/);
  });
});
