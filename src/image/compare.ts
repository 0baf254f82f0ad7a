// Compares an unpacked layer with the archive it came from, without unpacking it again. Runs on a worker
// thread. Sees changed, missing and surplus files, whiteouts, opaque marks, file capabilities and user attributes; the last
// of several entries of one name counts. Not times, and not the attributes that a kernel hands back in another form than
// it was given (POSIX ACLs, security labels).
import {
  type BigIntStats,
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
import { deviceNumbers } from '../host/device-numbers.ts';
import { getXattr, holdsXattr } from '../host/files-ffi.ts';
import { decompress } from './decompress.ts';
import type { Compression } from './media-types.ts';
import { createTarReader, type TarHandler, type TarHeader } from './tar/reader.ts';
import {
  cleanName,
  fsPath,
  isOpaque,
  isWhiteout,
  latin1Path,
  opaqueMark,
  readable,
  whiteoutMeta,
  whiteoutPrefix,
} from './unpack.ts';

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
  const comparer = createComparer(latin1Path(directory));
  const reader = createTarReader(comparer);
  for await (const chunk of decompress(createReadStream(archive), compression, size)) {
    signal.throwIfAborted();
    reader.write(chunk);
  }
  reader.finish();
  return comparer.finish();
}

interface Comparer extends TarHandler {
  /** The first difference in words, or null. */
  finish(): string | null;
}

function createComparer(root: string): Comparer {
  /** Differences by name. */
  const found = new Map<string, string>();
  /** Names that entries account for, and the directories that those lie in. */
  const seen = new Set<string>();
  const parents = new Set<string>();
  /** What whiteouts hide, and directories with an opaque mark. */
  const hidden = new Set<string>();
  const opaque = new Set<string>();
  let open: { fd: number; name: string } | undefined;
  const buffer = Buffer.alloc(256 * 1024);

  const stat = (name: string) => statIfThere(`${root}/${name}`);

  function begin(header: TarHeader, name: string): string | undefined {
    const path = `${root}/${name}`;
    const at = stat(name);
    if (!at) return 'is missing';
    const fits =
      header.type === 'hardlink' ||
      (header.type === 'file' && at.isFile()) ||
      (header.type === 'directory' && at.isDirectory()) ||
      (header.type === 'symlink' && at.isSymbolicLink()) ||
      (header.type === 'char' && at.isCharacterDevice()) ||
      (header.type === 'block' && at.isBlockDevice()) ||
      (header.type === 'fifo' && at.isFIFO());
    if (!fits) return 'is of another type';
    if (header.type === 'hardlink') return undefined;
    if (Number(at.uid) !== header.uid || Number(at.gid) !== header.gid) return 'has another owner';
    for (const [attribute, value] of header.xattrs) {
      if (!holdsAttribute(path, attribute, value)) return `has not the attribute ${attribute} of the archive`;
    }
    if (header.type === 'symlink') {
      const target = readlinkSync(fsPath(path), 'buffer').toString('latin1');
      return target === header.linkName ? undefined : 'leads elsewhere';
    }
    if (Number(at.mode & 0o7777n) !== header.mode) return 'has another mode';
    if (header.type === 'char' || header.type === 'block') {
      const { major, minor } = deviceNumbers(at.rdev);
      const same = major === header.devMajor && minor === header.devMinor;
      return same ? undefined : `is device ${major}:${minor}, not ${header.devMajor}:${header.devMinor}`;
    }
    if (header.type !== 'file') return undefined;
    if (at.size !== BigInt(header.size)) return `has ${at.size} bytes, not ${header.size}`;
    open = { fd: openSync(fsPath(path), constants.O_RDONLY | constants.O_NOFOLLOW), name };
    return undefined;
  }

  /** What is no directory takes the place of all that its name, and the names below it, stood for. */
  function forget(name: string): void {
    for (const names of [found, hidden, opaque]) {
      names.delete(name);
      if (!parents.has(name)) continue;
      for (const other of names.keys()) if (other.startsWith(`${name}/`)) names.delete(other);
    }
  }

  function addParents(parts: readonly string[]): void {
    for (let length = parts.length - 1; length > 0; length--) {
      const parent = parts.slice(0, length).join('/');
      if (parents.has(parent)) return;
      parents.add(parent);
    }
  }

  const opaqueDifference = (name: string) =>
    stat(name)?.isDirectory() && isOpaque(`${root}/${name}`) ? undefined : 'is not opaque';

  function whiteoutDifference(name: string): string | undefined {
    const at = stat(name);
    if (!at) return 'is missing: a whiteout';
    if (at.isDirectory()) return opaqueDifference(name);
    if (isWhiteout(at) || seen.has(name) || underLink(name, seen)) return undefined;
    return 'is not a whiteout';
  }

  /** The first that is said of a name stays. */
  function notice(name: string, difference: string | undefined): void {
    if (difference !== undefined && !found.has(name)) found.set(name, difference);
  }

  return {
    entry(header) {
      const parts = cleanName(header.name);
      const base = parts.at(-1) ?? '';
      const linked = throughLink(root, parts);
      addParents(parts);
      if (base.startsWith(whiteoutPrefix)) {
        const parent = parts.slice(0, -1);
        const name = [...parent, base.slice(whiteoutPrefix.length)].join('/');
        if (linked) seen.add(name);
        else if (base === opaqueMark) opaque.add(parent.join('/'));
        else if (!base.startsWith(whiteoutMeta)) hidden.add(name);
        return;
      }
      const name = parts.join('/');
      // A link to itself changes nothing.
      if (header.type === 'hardlink' && cleanName(header.linkName).join('/') === name) return;
      seen.add(name);
      if (header.type === 'directory') found.delete(name);
      else forget(name);
      if (linked) return;
      notice(name, begin(header, name));
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
    finish() {
      for (const name of hidden) notice(name, whiteoutDifference(name));
      for (const name of opaque) notice(name, opaqueDifference(name));
      const [first] = found;
      return first ? `${readable(first[0]) || '/'} ${first[1]}` : surplus(root, seen, hidden);
    },
  };
}

/** Whether `path` has the attribute, or one of a class that is not compared or that the file system cannot hold. */
function holdsAttribute(path: string, name: string, value: Buffer): boolean {
  if (name !== 'security.capability' && !/^user\.(?!overlay\.)/.test(name)) return true;
  const held = getXattr(path, name);
  if (held === undefined) return !holdsXattr(path, name);
  // The kernel leaves out a root id of 0 (capabilities(7), "File capability extended attribute versioning").
  const same = (bytes: Buffer) => (name === 'security.capability' ? bytes.subarray(4, 20) : bytes);
  return same(held).equals(same(value));
}

/** Undefined also where something that is no directory stands in the way. */
function statIfThere(path: string): BigIntStats | undefined {
  try {
    return lstatSync(fsPath(path), { bigint: true });
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Whether a name was unpacked through a symbolic link of the layer; then it lies elsewhere and is not compared. */
function throughLink(root: string, parts: readonly string[]): boolean {
  return parts.slice(0, -1).some((_, index) => {
    const at = `${root}/${parts.slice(0, index + 1).join('/')}`;
    return statIfThere(at)?.isSymbolicLink() ?? false;
  });
}

/** A file or a whiteout that no entry accounts for. Directories may be implicit, copied-up links have other names. */
function surplus(root: string, seen: ReadonlySet<string>, hidden: ReadonlySet<string>): string | null {
  const pending = [''];
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    for (const entry of readEntries(`${root}/${at}`)) {
      const name = at === '' ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) pending.push(name);
      else if (
        (entry.isFile() || entry.isCharacterDevice()) &&
        !seen.has(name) &&
        !hidden.has(name) &&
        statIfThere(`${root}/${name}`)?.nlink === 1n &&
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
