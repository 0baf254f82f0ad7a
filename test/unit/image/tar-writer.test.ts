// What is written is read back by the reader for image layers, and by GNU tar.
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { createTarReader, type TarHeader } from '../../../src/image/tar/reader.ts';
import { type TarEntry, tarEnd, tarHeader, tarPadding } from '../../../src/image/tar/writer.ts';

const plain: TarEntry = {
  type: 'file',
  name: 'file',
  linkName: '',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeNs: 0n,
  devMajor: 0,
  devMinor: 0,
  xattrs: new Map(),
};

function written(entry: TarEntry): Buffer {
  const content = Buffer.alloc(entry.size, 'x');
  return Buffer.concat([tarHeader(entry), content, tarPadding(entry.size), tarEnd]);
}

function readBack(entry: TarEntry): TarHeader {
  const found: TarHeader[] = [];
  const reader = createTarReader({ entry: header => void found.push(header), data() {}, end() {} });
  reader.write(written(entry));
  reader.finish();
  const [header] = found;
  if (!header || found.length !== 1) throw new Error(`${found.length} entries were read`);
  return header;
}

test.each<[string, Partial<TarEntry>]>([
  ['a plain file', { size: 700, mode: 0o6755, uid: 12, gid: 13, mtimeNs: 1_700_000_000_000_000_000n }],
  ['a name longer than the header holds', { name: `${'directory/'.repeat(20)}file` }],
  ['a link to such a name', { type: 'symlink', linkName: `${'../'.repeat(60)}target` }],
  ['a hard link', { type: 'hardlink', linkName: 'other' }],
  ['a name of any bytes', { name: 'sch\xf6n\n\x80' }],
  ['ids of a user namespace', { uid: 4_000_000_000, gid: 3_000_000_000 }],
  ['a time between two seconds', { mtimeNs: 1_700_000_000_123_456_789n }],
  ['a time before 1970', { mtimeNs: -1_500_000_000n }],
  ['a device', { type: 'char', devMajor: 10, devMinor: 229 }],
  [
    'attributes of any bytes',
    { xattrs: new Map([['security.capability', Buffer.from([1, 0, 0xff, 10, 61])]]) },
  ],
])('%s is read back as it was', (_, over) => {
  const entry = { ...plain, ...over };
  expect(readBack(entry)).toMatchObject(entry);
});

test('a directory keeps its kind', () => {
  expect(readBack({ ...plain, type: 'directory', name: 'etc/', mode: 0o1777 })).toMatchObject({
    type: 'directory',
    mode: 0o1777,
  });
});

test('GNU tar reads it, too', () => {
  const name = `${'long/'.repeat(40)}name`;
  const listed = execFileSync('tar', ['-tvf', '-', '--numeric-owner'], {
    input: written({ ...plain, name, size: 5, uid: 4_000_000, gid: 7, mtimeNs: 5n }),
    encoding: 'utf8',
  });
  expect(listed).toMatch(new RegExp(`^-rw-r--r-- 4000000/7 +5 .* ${name}\\n$`));
});
