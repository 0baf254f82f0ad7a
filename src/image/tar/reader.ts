// Reads a tar stream: v7, ustar, GNU and PAX as they occur in image layers, with long names, sparse files and
// extended attributes. Pushed, not pulled: the owner writes chunks as they come off the decompressor, and the
// handler's calls happen in between, without a copy of file contents.
//
// The archive is not trusted. Sizes are bounded before anything is kept, numbers are checked, and a stream that
// ends early is an error. What a name may point at is the handler's business (src/image/unpack.ts).
import { CriError } from '../../errors.ts';

export type EntryType = 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo';

/** One entry. Strings hold one byte a character (latin1): file names are bytes, whatever they spell. */
export interface TarHeader {
  readonly type: EntryType;
  readonly name: string;
  readonly linkName: string;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of the file when it is unpacked, holes included. */
  readonly size: number;
  /** Modification time in nanoseconds since 1970. */
  readonly mtimeNs: bigint;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes by full name, such as `security.capability`. */
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** The file has holes: data comes with gaps between. */
  readonly sparse: boolean;
}

export interface TarHandler {
  entry(header: TarHeader): void;
  /** A piece of the current file's contents and where in the file it belongs. Valid during the call only. */
  data(chunk: Buffer, position: number): void;
  /** The current entry is complete. */
  end(header: TarHeader): void;
}

export interface TarReader {
  write(chunk: Buffer): void;
  /** Ends the stream. @throws CriError imageFailed when it stops in the middle of an entry. */
  finish(): void;
  /** Bytes of content and padding still to come for the current entry, which a seekable source may skip. */
  skippable(): number;
  /** Tells the reader that `bytes` of what was skippable were passed over. */
  skipped(bytes: number): void;
}

const blockSize = 512;
const maxExtensionBytes = 1024 * 1024;
const maxExtensionsInARow = 16;
const maxSparsePieces = 256 * 1024;

type Pax = [key: string, value: Buffer][];

interface SparsePiece {
  position: number;
  length: number;
}

interface Fields {
  name: string;
  linkName: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtimeNs: bigint;
  devMajor: number;
  devMinor: number;
  typeFlag: string;
}

const typeFlags: Readonly<Record<string, EntryType>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

function refuse(why: string): never {
  throw new CriError('imageFailed', `the tar archive is damaged: ${why}`);
}

/** Makes a reader that reports to `handler`. Errors of the handler pass through `write`. */
export function createTarReader(handler: TarHandler): TarReader {
  // What the next bytes are. `extension` gathers a PAX or long-name record, `sparseMap` a map of pieces.
  let state: 'header' | 'extension' | 'sparseHeader' | 'sparseMap' | 'data' | 'padding' | 'ended' = 'header';
  const block = Buffer.alloc(blockSize);
  let filled = 0;
  let sawZeroBlock = false;
  let anything = false;

  let extension = Buffer.alloc(0);
  let extensionFlag = '';
  let extensionsInARow = 0;
  let pax: Pax = [];
  let longName: string | undefined;
  let longLink: string | undefined;

  let header: TarHeader | undefined;
  let left = 0; // bytes of the current content in the stream
  let padding = 0;
  let pieces: SparsePiece[] = [];
  let piece = 0;
  let position = 0;
  let fields: Fields | undefined;
  let sparseText = '';

  function write(chunk: Buffer): void {
    let at = 0;
    if (chunk.length > 0) anything = true;
    while (at < chunk.length) {
      switch (state) {
        case 'ended':
          return;
        case 'data': {
          const used = takeData(chunk, at);
          at += used;
          break;
        }
        case 'padding': {
          const skip = Math.min(padding, chunk.length - at);
          padding -= skip;
          at += skip;
          if (padding === 0) state = 'header';
          break;
        }
        case 'extension': {
          const take = Math.min(left, chunk.length - at);
          chunk.copy(extension, extension.length - left, at, at + take);
          left -= take;
          at += take;
          if (left === 0) {
            takeExtension();
            toPadding();
          }
          break;
        }
        default: {
          const take = Math.min(blockSize - filled, chunk.length - at);
          chunk.copy(block, filled, at, at + take);
          filled += take;
          at += take;
          if (filled < blockSize) return;
          filled = 0;
          if (state === 'header') takeHeader();
          else if (state === 'sparseHeader') takeSparseHeader();
          else takeSparseMap();
        }
      }
    }
  }

  function toPadding(): void {
    state = padding > 0 ? 'padding' : 'header';
  }

  function takeData(chunk: Buffer, at: number): number {
    const current = pieces[piece];
    const inPiece = current === undefined ? left : current.position + current.length - position;
    const take = Math.min(left, inPiece, chunk.length - at);
    if (header && take > 0) handler.data(chunk.subarray(at, at + take), position);
    left -= take;
    position += take;
    if (current !== undefined && position === current.position + current.length) nextPiece();
    if (left === 0) endEntry();
    return take;
  }

  function nextPiece(): void {
    do piece++;
    while (piece < pieces.length && pieces[piece]?.length === 0);
    position = pieces[piece]?.position ?? position;
  }

  function endEntry(): void {
    const done = header;
    header = undefined;
    toPadding();
    if (done) handler.end(done);
  }

  function takeHeader(): void {
    if (isZero(block)) {
      if (sawZeroBlock) state = 'ended';
      sawZeroBlock = true;
      return;
    }
    if (sawZeroBlock) refuse('data follows a block of zeros');
    checkSum(block);
    const read = readFields(block);
    if ('xgLK'.includes(read.typeFlag)) {
      if (++extensionsInARow > maxExtensionsInARow) {
        refuse(`more than ${maxExtensionsInARow} extension headers precede one entry`);
      }
      if (read.size > maxExtensionBytes) {
        refuse(`an extension header of ${read.size} bytes exceeds the ${maxExtensionBytes} allowed`);
      }
      extensionFlag = read.typeFlag;
      extension = Buffer.alloc(read.size);
      left = read.size;
      padding = paddingOf(read.size);
      if (left > 0) state = 'extension';
      else {
        takeExtension();
        toPadding();
      }
      return;
    }
    extensionsInARow = 0;
    fields = read;
    begin(read);
  }

  function takeExtension(): void {
    switch (extensionFlag) {
      case 'x':
        pax = readPax(extension);
        break;
      case 'L':
        longName = untilNul(extension, 0, extension.length);
        break;
      case 'K':
        longLink = untilNul(extension, 0, extension.length);
        break;
      // 'g': attributes for all entries that follow. Image layers carry a git commit id there at most.
    }
    extension = Buffer.alloc(0);
  }

  /** The entry's own header is read: applies the extensions, finds out about holes, and reports it. */
  function begin(read: Fields): void {
    if (longName !== undefined) read.name = longName;
    if (longLink !== undefined) read.linkName = longLink;
    applyPax(read, pax);
    left = read.size;
    padding = paddingOf(read.size);
    pieces = [];
    const value = (key: string) => pax.findLast(([name]) => name === key)?.[1].toString('latin1');
    if (read.typeFlag === 'S') {
      pieces = sparsePieces(block, 386, 4);
      read.size = readNumber(block, 483, 12);
      if (block[482]) state = 'sparseHeader';
      else report(read, true);
    } else if (value('GNU.sparse.major') === '1') {
      read.name = value('GNU.sparse.name') ?? read.name;
      read.size = decimal(value('GNU.sparse.realsize') ?? '');
      sparseText = '';
      state = 'sparseMap';
    } else if (value('GNU.sparse.size') !== undefined || value('GNU.sparse.map') !== undefined) {
      read.name = value('GNU.sparse.name') ?? read.name;
      read.size = decimal(value('GNU.sparse.size') ?? '');
      pieces = paxPieces(pax, value('GNU.sparse.map'));
      report(read, true);
    } else report(read, false);
  }

  function takeSparseHeader(): void {
    pieces.push(...sparsePieces(block, 0, 21));
    if (pieces.length > maxSparsePieces) refuse('a sparse file has too many pieces');
    if (block[504] || !fields) return;
    report(fields, true);
  }

  /** PAX sparse format 1.0 puts the map, decimal lines, in front of the contents. */
  function takeSparseMap(): void {
    if (left < blockSize || !fields) refuse('a sparse file ends inside its map');
    left -= blockSize;
    sparseText += block.toString('latin1');
    if (sparseText.length > maxExtensionBytes) refuse('the map of a sparse file is too long');
    const lines = sparseText.split('\n');
    const count = lines.length > 1 ? decimal(lines[0] ?? '') : undefined;
    if (count !== undefined && count > maxSparsePieces) refuse('a sparse file has too many pieces');
    if (count === undefined || lines.length <= count * 2 + 1) return;
    for (let i = 0; i < count; i++) {
      pieces.push({ position: decimal(lines[1 + i * 2] ?? ''), length: decimal(lines[2 + i * 2] ?? '') });
    }
    report(fields, true);
  }

  function report(read: Fields, sparse: boolean): void {
    const type = typeFlags[read.typeFlag];
    if (type === undefined)
      refuse(`entry ${read.name} has the unknown type ${JSON.stringify(read.typeFlag)}`);
    const isDirectory = type === 'file' && read.name.endsWith('/');
    // Before ustar a directory was a file whose name ends with a slash.
    if (type !== 'file' || (isDirectory && read.typeFlag === '\0')) {
      // Only files have contents. A size elsewhere says something else: what a hard link leads to, or how much a
      // directory may hold (POSIX, ustar interchange format); Go's archive/tar reads none either.
      read.size = left = padding = 0;
    }
    if (sparse) checkPieces(pieces, left, read);
    piece = -1;
    position = 0;
    if (sparse) nextPiece();
    header = {
      type: isDirectory ? 'directory' : type,
      name: read.name,
      linkName: read.linkName,
      mode: read.mode & 0o7777,
      uid: read.uid,
      gid: read.gid,
      size: read.size,
      mtimeNs: read.mtimeNs,
      devMajor: read.devMajor,
      devMinor: read.devMinor,
      xattrs: xattrsOf(pax),
      sparse,
    };
    pax = [];
    longName = longLink = undefined;
    fields = undefined;
    handler.entry(header);
    if (left > 0) state = 'data';
    else endEntry();
  }

  return {
    write,
    finish() {
      if (state === 'ended') return;
      const between = state === 'header' && filled === 0 && extensionsInARow === 0;
      if (!between) refuse('it ends in the middle of an entry');
      if (!anything) refuse('it is empty');
    },
    skippable: () =>
      state === 'data' && pieces.length === 0 ? left + padding : state === 'padding' ? padding : 0,
    skipped(bytes) {
      const content = Math.min(left, bytes);
      left -= content;
      position += content;
      padding -= bytes - content;
      if (left > 0) return;
      if (header) endEntry();
      else toPadding();
    },
  };
}

function paddingOf(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}

function isZero(block: Buffer): boolean {
  for (const byte of block) if (byte !== 0) return false;
  return true;
}

/** Old writers summed signed bytes; both sums are accepted. */
function checkSum(block: Buffer): void {
  const stored = readNumber(block, 148, 8);
  let unsigned = 256;
  let signed = 256;
  for (let i = 0; i < blockSize; i++) {
    if (i >= 148 && i < 156) continue;
    const byte = block[i] ?? 0;
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  if (stored !== unsigned && stored !== signed) refuse('the checksum of a header does not match');
}

function readFields(block: Buffer): Fields {
  const magic = block.toString('latin1', 257, 263);
  const name = untilNul(block, 0, 100);
  const prefix = magic === 'ustar\0' ? untilNul(block, 345, 155) : '';
  const typeFlag = String.fromCharCode(block[156] ?? 0);
  const isDevice = typeFlag === '3' || typeFlag === '4';
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: untilNul(block, 157, 100),
    mode: readNumber(block, 100, 8),
    uid: readNumber(block, 108, 8),
    gid: readNumber(block, 116, 8),
    size: readNumber(block, 124, 12),
    mtimeNs: BigInt(readSigned(block, 136, 12)) * 1_000_000_000n,
    devMajor: isDevice ? readNumber(block, 329, 8) : 0,
    devMinor: isDevice ? readNumber(block, 337, 8) : 0,
    typeFlag,
  };
}

function untilNul(block: Buffer, start: number, length: number): string {
  const nul = block.indexOf(0, start);
  return block.toString('latin1', start, nul === -1 || nul > start + length ? start + length : nul);
}

function readNumber(block: Buffer, start: number, length: number): number {
  const value = readSigned(block, start, length);
  if (value < 0) refuse(`a number in a header is negative (${value})`);
  return value;
}

/** Octal digits, or, with the first bit set, a big-endian two's complement number (GNU base-256). */
function readSigned(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  if (first & 0x80) {
    let value = BigInt(first & 0x40 ? -1 : 0);
    value = (value << 6n) | BigInt(first & 0x3f);
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[start + i] ?? 0);
    return safe(Number(value));
  }
  const text = untilNul(block, start, length).trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) refuse(`${JSON.stringify(text)} stands where an octal number should`);
  return safe(Number.parseInt(text, 8));
}

function safe(value: number): number {
  if (!Number.isSafeInteger(value)) refuse(`the number ${value} is out of range`);
  return value;
}

function decimal(text: string): number {
  if (!/^[0-9]{1,16}$/.test(text)) refuse(`${JSON.stringify(text)} stands where a decimal number should`);
  return safe(Number(text));
}

/** Records of the form "LENGTH KEY=VALUE\n", LENGTH counting the whole record (POSIX pax). */
function readPax(data: Buffer): Pax {
  const records: Pax = [];
  let at = 0;
  while (at < data.length) {
    const space = data.indexOf(0x20, at);
    if (space === -1 || space - at > 10) refuse('a PAX record has no length');
    const length = decimal(data.toString('latin1', at, space));
    const equals = data.indexOf(0x3d, space);
    const end = at + length;
    if (length === 0 || end > data.length || equals === -1 || equals >= end || data[end - 1] !== 0x0a) {
      refuse('a PAX record does not have the length it states');
    }
    records.push([data.toString('latin1', space + 1, equals), data.subarray(equals + 1, end - 1)]);
    at = end;
  }
  return records;
}

function applyPax(fields: Fields, pax: Pax): void {
  for (const [key, value] of pax) {
    const text = value.toString('latin1');
    // An empty value takes back a global one; there are none here, so the header's own stands.
    if (text === '') continue;
    switch (key) {
      case 'path':
        fields.name = text;
        break;
      case 'linkpath':
        fields.linkName = text;
        break;
      case 'size':
        fields.size = decimal(text);
        break;
      case 'uid':
        fields.uid = decimal(text);
        break;
      case 'gid':
        fields.gid = decimal(text);
        break;
      case 'mtime':
        fields.mtimeNs = nanoseconds(text);
        break;
    }
  }
}

/** "SECONDS.FRACTION" to nanoseconds, exactly. */
function nanoseconds(text: string): bigint {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text);
  if (!match) refuse(`${JSON.stringify(text)} stands where a time should`);
  const fraction = (match[3] ?? '').slice(0, 9).padEnd(9, '0');
  const value = BigInt(match[2] ?? '0') * 1_000_000_000n + BigInt(fraction);
  return match[1] === '-' ? -value : value;
}

const xattrPrefix = 'SCHILY.xattr.';
const noXattrs: ReadonlyMap<string, Buffer> = new Map();

function xattrsOf(pax: Pax): ReadonlyMap<string, Buffer> {
  if (!pax.some(([key]) => key.startsWith(xattrPrefix))) return noXattrs;
  return new Map(
    pax
      .filter(([key]) => key.startsWith(xattrPrefix))
      .map(([key, value]) => [key.slice(xattrPrefix.length), Buffer.from(value)]),
  );
}

function sparsePieces(block: Buffer, start: number, count: number): SparsePiece[] {
  const pieces: SparsePiece[] = [];
  for (let i = 0; i < count; i++) {
    const at = start + i * 24;
    if (block[at] === 0) break;
    pieces.push({ position: readNumber(block, at, 12), length: readNumber(block, at + 12, 12) });
  }
  return pieces;
}

/** PAX sparse formats 0.0 (repeated offset and numbytes records) and 0.1 (one comma-separated map). */
function paxPieces(pax: Pax, map: string | undefined): SparsePiece[] {
  const numbers =
    map !== undefined
      ? map.split(',').filter(text => text !== '')
      : pax
          .filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes')
          .map(([, value]) => value.toString('latin1'));
  if (numbers.length % 2 !== 0) refuse('the map of a sparse file has an odd number of entries');
  const pieces: SparsePiece[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    pieces.push({ position: decimal(numbers[i] ?? ''), length: decimal(numbers[i + 1] ?? '') });
  }
  return pieces;
}

/** Pieces must lie in order, inside the file, and add up to what the archive holds. */
function checkPieces(pieces: readonly SparsePiece[], stored: number, fields: Fields): void {
  let end = 0;
  let total = 0;
  for (const { position, length } of pieces) {
    if (position < end || position + length > fields.size)
      refuse(`the map of sparse file ${fields.name} is wrong`);
    end = position + length;
    total += length;
  }
  if (total !== stored) refuse(`the map of sparse file ${fields.name} does not add up to its contents`);
}
