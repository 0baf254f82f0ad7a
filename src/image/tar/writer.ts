// Writes tar headers in the form that every reader of image layers takes: ustar, with a PAX header before an entry
// that does not fit into it. Names are bytes, one a character (latin1), as in reader.ts.
import type { EntryType, TarHeader } from './reader.ts';

/** What an entry is made of; `size` is 0 but for files. */
export type TarEntry = Omit<TarHeader, 'sparse'>;

const block = 512;
const typeFlags: Readonly<Record<EntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};
const nameBytes = 100;
/** Largest numbers of 7 and of 11 octal digits. */
const [maxId, maxSize] = [0o7777777, 0o77777777777];
const second = 1_000_000_000n;

/** An archive ends with two empty blocks. */
export const tarEnd = Buffer.alloc(2 * block);

/** The zeros between a file's contents and the next header. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((block - (size % block)) % block);
}

/** All blocks that stand before an entry's contents. */
export function tarHeader(entry: TarEntry): Buffer {
  const records = paxRecords(entry);
  if (records.length === 0) return ustar(entry, typeFlags[entry.type]);
  const extension: TarEntry = {
    ...entry,
    name: 'PaxHeaders/entry',
    linkName: '',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: records.length,
  };
  return Buffer.concat([
    ustar(extension, 'x'),
    records,
    tarPadding(records.length),
    ustar(entry, typeFlags[entry.type]),
  ]);
}

function ustar(entry: TarEntry, flag: string): Buffer {
  const header = Buffer.alloc(block);
  const octal = (value: number, at: number, digits: number) =>
    header.write(value.toString(8).padStart(digits, '0').slice(-digits), at, 'latin1');
  const seconds = entry.mtimeNs / second;
  header.write(entry.name.slice(0, nameBytes), 0, 'latin1');
  octal(entry.mode, 100, 7);
  octal(Math.min(entry.uid, maxId), 108, 7);
  octal(Math.min(entry.gid, maxId), 116, 7);
  octal(Math.min(entry.size, maxSize), 124, 11);
  octal(seconds > 0n && seconds <= BigInt(maxSize) ? Number(seconds) : 0, 136, 11);
  header.write(flag, 156, 'latin1');
  header.write(entry.linkName.slice(0, nameBytes), 157, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  octal(entry.devMajor, 329, 7);
  octal(entry.devMinor, 337, 7);
  header.fill(0x20, 148, 156); // the sum counts its own field as spaces
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

function paxRecords(entry: TarEntry): Buffer {
  const fields: [key: string, value: Buffer][] = [];
  const text = (key: string, value: string) => fields.push([key, Buffer.from(value, 'latin1')]);
  if (entry.name.length > nameBytes) text('path', entry.name);
  if (entry.linkName.length > nameBytes) text('linkpath', entry.linkName);
  if (entry.uid > maxId) text('uid', String(entry.uid));
  if (entry.gid > maxId) text('gid', String(entry.gid));
  if (entry.size > maxSize) text('size', String(entry.size));
  if (entry.mtimeNs % second !== 0n || entry.mtimeNs < 0n) text('mtime', decimalSeconds(entry.mtimeNs));
  for (const [name, value] of entry.xattrs) fields.push([`SCHILY.xattr.${name}`, value]);
  return Buffer.concat(fields.map(([key, value]) => paxRecord(key, value)));
}

/** `LENGTH KEY=VALUE\n`, where the length counts its own digits. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function decimalSeconds(ns: bigint): string {
  const [sign, size] = ns < 0n ? ['-', -ns] : ['', ns];
  return `${sign}${size / second}.${String(size % second).padStart(9, '0')}`;
}
