// Compares an unpacked layer with the archive it came from, without unpacking it again. Runs on a worker
// thread. Sees changed, missing and surplus files; the last of several entries of one name counts.
import {
  closeSync,
  constants,
  createReadStream,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import { CriError, codeOf } from '../errors.ts';
import { decompress } from './decompress.ts';
import type { Compression } from './media-types.ts';
import { createTarReader, type TarHandler, type TarHeader } from './tar/reader.ts';
import { cleanName, fsPath, readable } from './unpack.ts';

export interface Comparison {
  archive: string;
  size: number;
  compression: Compression;
  directory: string;
}

/** The first difference in words, or null when there is none. */
export async function compareLayer(
  { archive, size, compression, directory }: Comparison,
  signal: AbortSignal,
): Promise<string | null> {
  const root = Buffer.from(directory).toString('latin1');
  const found = new Map<string, string>();
  const seen = new Set<string>();
  const handler = createComparer(root, found, seen);
  const reader = createTarReader(handler);
  for await (const chunk of decompress(createReadStream(archive), compression, size)) {
    signal.throwIfAborted();
    reader.write(chunk);
  }
  reader.finish();
  const [first] = found;
  if (first) return `${readable(first[0])} ${first[1]}`;
  return surplus(root, seen);
}

function createComparer(root: string, found: Map<string, string>, seen: Set<string>): TarHandler {
  let open: { fd: number; name: string } | undefined;
  const buffer = Buffer.alloc(256 * 1024);

  function begin(header: TarHeader, name: string): string | undefined {
    const path = `${root}/${name}`;
    const stat = lstatSync(fsPath(path), { throwIfNoEntry: false });
    if (!stat) return 'is missing';
    const fits =
      header.type === 'hardlink' ||
      (header.type === 'file' && stat.isFile()) ||
      (header.type === 'directory' && stat.isDirectory()) ||
      (header.type === 'symlink' && stat.isSymbolicLink()) ||
      (header.type === 'char' && stat.isCharacterDevice()) ||
      (header.type === 'block' && stat.isBlockDevice()) ||
      (header.type === 'fifo' && stat.isFIFO());
    if (!fits) return 'is of another type';
    if (header.type === 'hardlink') return undefined;
    if (stat.uid !== header.uid || stat.gid !== header.gid) return 'has another owner';
    if (header.type === 'symlink') {
      const target = readlinkSync(fsPath(path), 'buffer').toString('latin1');
      return target === header.linkName ? undefined : 'leads elsewhere';
    }
    if ((stat.mode & 0o7777) !== header.mode) return 'has another mode';
    if (header.type !== 'file') return undefined;
    if (stat.size !== header.size) return `has ${stat.size} bytes, not ${header.size}`;
    open = { fd: openSync(fsPath(path), constants.O_RDONLY | constants.O_NOFOLLOW), name };
    return undefined;
  }

  return {
    entry(header) {
      const parts = cleanName(header.name);
      const base = parts.at(-1) ?? '';
      const name = base.startsWith('.wh.')
        ? [...parts.slice(0, -1), base.slice(4)].join('/')
        : parts.join('/');
      seen.add(name);
      found.delete(name);
      if (base.startsWith('.wh.') || throughLink(root, parts)) return;
      const difference = begin(header, name);
      if (difference !== undefined) found.set(name, difference);
    },
    data(chunk, position) {
      if (!open) return;
      for (let at = 0; at < chunk.length; at += buffer.length) {
        const part = chunk.subarray(at, at + buffer.length);
        const read = readSync(open.fd, buffer, 0, part.length, position + at);
        if (read !== part.length || buffer.compare(part, 0, part.length, 0, read) !== 0) {
          found.set(open.name, `differs at byte ${position + at}`);
          return;
        }
      }
    },
    end() {
      if (open) closeSync(open.fd);
      open = undefined;
    },
  };
}

/** Whether a name was unpacked through a symbolic link of the layer; then it lies elsewhere and is not compared. */
function throughLink(root: string, parts: readonly string[]): boolean {
  return parts.slice(0, -1).some((_, index) => {
    const at = `${root}/${parts.slice(0, index + 1).join('/')}`;
    return lstatSync(fsPath(at), { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
  });
}

/** A file that no entry accounts for. Directories may be implicit, whiteouts and copied-up links have other names. */
function surplus(root: string, seen: ReadonlySet<string>): string | null {
  const pending = [''];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    for (const entry of readEntries(`${root}/${at}`)) {
      const name = at === '' ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) pending.push(name);
      else if (
        entry.isFile() &&
        !seen.has(name) &&
        lstatSync(fsPath(`${root}/${name}`)).nlink === 1 &&
        !underLink(name, seen)
      ) {
        return `${readable(name)} is not in the archive`;
      }
    }
  }
  return null;
}

/** Files that came through a link of the archive are known under another name. */
function underLink(name: string, seen: ReadonlySet<string>): boolean {
  const base = name.slice(name.lastIndexOf('/') + 1);
  for (const other of seen) if (other.endsWith(`/${base}`)) return true;
  return false;
}

function readEntries(path: string) {
  try {
    return readdirSync(fsPath(path), { withFileTypes: true, encoding: 'latin1' });
  } catch (error) {
    throw new CriError('imageFailed', `${readable(path)} cannot be read: ${codeOf(error)}`, { cause: error });
  }
}
