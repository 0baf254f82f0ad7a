// Packs a writable layer, as overlayfs keeps it, into a layer archive: the way back from what src/image/unpack.ts
// does. Device 0/0 becomes a whiteout, the opaque attribute an opaque mark. Runs in a worker process, synchronously.
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  writeSync,
} from 'node:fs';
import { deviceNumbers } from '../host/device-numbers.ts';
import { getXattr, listXattrs } from '../host/files-ffi.ts';
import type { EntryType } from './tar/reader.ts';
import { type TarEntry, tarEnd, tarHeader, tarPadding } from './tar/writer.ts';
import { fsPath } from './unpack.ts';

const overlayPrefix = 'trusted.overlay.';
const chunk = Buffer.alloc(256 * 1024);

/** Writes the archive of `directory` (a string of text) to the file `to`, mode 0600. */
export function packDifference(directory: string, to: string, signal: AbortSignal): void {
  const root = Buffer.from(directory).toString('latin1');
  const out = openSync(to, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
  const linked = new Map<string, string>();
  const write = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; ) at += writeSync(out, bytes, at);
  };

  function visit(name: string): void {
    signal.throwIfAborted();
    const path = name === '' ? root : `${root}/${name}`;
    const stat = lstatSync(fsPath(path), { bigint: true });
    const numbers = deviceNumbers(stat.rdev);
    if (stat.isCharacterDevice() && numbers.major === 0 && numbers.minor === 0) {
      write(tarHeader(empty(sibling(name, `.wh.${base(name)}`))));
      return;
    }
    const type = entryType(stat);
    if (type === undefined) return; // a socket is nothing without its process
    const entry: TarEntry = {
      type,
      name: type === 'directory' ? `${name}/` : name,
      linkName: type === 'symlink' ? readlinkSync(fsPath(path), 'buffer').toString('latin1') : '',
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: type === 'file' ? Number(stat.size) : 0,
      mtimeNs: stat.mtimeNs,
      devMajor: type === 'char' || type === 'block' ? numbers.major : 0,
      devMinor: type === 'char' || type === 'block' ? numbers.minor : 0,
      xattrs: attributes(path),
    };
    const first = stat.nlink > 1n && type === 'file' ? linked.get(`${stat.dev}:${stat.ino}`) : undefined;
    if (first !== undefined) {
      write(tarHeader({ ...entry, type: 'hardlink', linkName: first, size: 0 }));
      return;
    }
    if (type === 'file') linked.set(`${stat.dev}:${stat.ino}`, name);
    if (name !== '') write(tarHeader(entry));
    if (type === 'file') copy(path, entry.size);
    if (type !== 'directory') return;
    if (getXattr(path, `${overlayPrefix}opaque`)?.toString('latin1') === 'y') {
      write(tarHeader(empty(name === '' ? '.wh..wh..opq' : `${name}/.wh..wh..opq`)));
    }
    const entries = readdirSync(fsPath(path), { encoding: 'buffer' }).map(child => child.toString('latin1'));
    for (const child of entries.sort()) visit(name === '' ? child : `${name}/${child}`);
  }

  /** Exactly `size` bytes, whatever the file does meanwhile. */
  function copy(path: string, size: number): void {
    const fd = openSync(fsPath(path), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      for (let left = size; left > 0; ) {
        const read = readSync(fd, chunk, 0, Math.min(left, chunk.length), null);
        write(read > 0 ? chunk.subarray(0, read) : Buffer.alloc(Math.min(left, chunk.length)));
        left -= read > 0 ? read : Math.min(left, chunk.length);
      }
    } finally {
      closeSync(fd);
    }
    write(tarPadding(size));
  }

  try {
    visit('');
    write(tarEnd);
  } finally {
    closeSync(out);
  }
}

function entryType(stat: ReturnType<typeof lstatSync>): EntryType | undefined {
  if (stat === undefined) return undefined;
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isCharacterDevice()) return 'char';
  if (stat.isBlockDevice()) return 'block';
  return stat.isFIFO() ? 'fifo' : undefined;
}

/** All but overlayfs's own, which mean something only where they are. */
function attributes(path: string): Map<string, Buffer> {
  return new Map(
    listXattrs(path)
      .filter(name => !name.startsWith(overlayPrefix))
      .flatMap(name => {
        const value = getXattr(path, name);
        return value === undefined ? [] : [[name, Buffer.from(value)] as const];
      }),
  );
}

function empty(name: string): TarEntry {
  return {
    type: 'file',
    name,
    linkName: '',
    mode: 0o600,
    uid: 0,
    gid: 0,
    size: 0,
    mtimeNs: 0n,
    devMajor: 0,
    devMinor: 0,
    xattrs: new Map(),
  };
}

const base = (name: string) => name.slice(name.lastIndexOf('/') + 1);
const sibling = (name: string, other: string) => name.slice(0, name.lastIndexOf('/') + 1) + other;
