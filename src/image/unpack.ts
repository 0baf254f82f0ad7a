// Unpacks one layer into a directory of its own, in the form that overlayfs reads: whiteouts become character
// devices 0/0, opaque directories carry an attribute (image-spec, layer.md; kernel, overlayfs.rst). Runs on
// a worker thread and is synchronous: src/image/worker.ts feeds it from the decompressor.
//
// The archive is hostile until proven otherwise. Nothing is written but below `root`: every name is cleaned,
// and its directory is resolved component by component inside the root, symbolic links included, so that a
// link to /etc leads to the image's /etc. The directory is private to this unpacking, so what was found
// cannot change underneath.
//
// A layer is unpacked without the layers below it, so that all of them can be unpacked at once. What needs
// the ones below, the attributes of directories the archive does not mention and hard links to files of
// lower layers, is returned and settled later (src/image/settle.ts).
import {
  type BigIntStats,
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  rmSync,
  type Stats,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { CriError, codeOf } from '../errors.ts';
import { fileTypes, getXattr, mknod, setTimes, setXattr } from '../host/files-ffi.ts';
import type { TarHandler, TarHeader } from './tar/reader.ts';

/** What of a layer depends on the layers below it. Paths are relative to the layer, one byte a character. */
export interface Unsettled {
  /** Directories that exist only because something lies in them, parents first; '' is the root itself. */
  implicitDirectories: string[];
  /** Hard links whose target is not in this layer. */
  foreignLinks: { path: string; target: string }[];
}

export interface Unpacker extends TarHandler {
  /** Sets the directories' times and says what is left to settle. */
  finish(): Unsettled;
  /** Closes what is open after a failure. */
  abandon(): void;
}

export const opaqueMark = '.wh..wh..opq';
export const whiteoutPrefix = '.wh.';
export const whiteoutMeta = '.wh..wh.';
const opaqueAttribute = 'trusted.overlay.opaque';
const maxLinkHops = 40;
/** Bits that a new file may lose to the usual umask, or that creat(2) does not set at all. */
const bitsToSetAfterwards = 0o7022;

interface DirectoryState {
  /** The archive has an entry for it. */
  explicit: boolean;
  mtimeNs: bigint | undefined;
}

/** Whether what a layer holds is a whiteout: it hides what has its name in the layers below. */
export function isWhiteout(stat: Stats | BigIntStats): boolean {
  return stat.isCharacterDevice() && BigInt(stat.rdev) === 0n;
}

/** Whether the directory of a layer, a latin1 path, does not merge with those of its name in the layers below. */
export function isOpaque(path: string): boolean {
  return getXattr(path, opaqueAttribute)?.toString() === 'y';
}

/** The path as node:fs wants it: plain when it is ASCII, else the bytes it stands for. */
export function fsPath(latin1: string): string | Buffer {
  for (let i = 0; i < latin1.length; i++) {
    if (latin1.charCodeAt(i) > 0x7f) return Buffer.from(latin1, 'latin1');
  }
  return latin1;
}

/** A path of ours as one of one byte a character. */
export function latin1Path(path: string): string {
  return Buffer.from(path).toString('latin1');
}

/** A latin1 path as text for messages. */
export function readable(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('utf8');
}

function refuse(name: string, why: string): never {
  throw new CriError('imageFailed', `the layer holds ${JSON.stringify(readable(name))}, ${why}`);
}

/** The components of an archive's name, without `.` and resolved `..`. @throws CriError when it climbs out. */
export function cleanName(name: string): string[] {
  if (name.includes('\0')) refuse(name, 'a name with a NUL byte');
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) refuse(name, 'which climbs out of the image');
  }
  return parts;
}

/** Unpacks into `root`, an existing empty directory given as an absolute path. */
export function createUnpacker(rootPath: string): Unpacker {
  const root = latin1Path(rootPath);
  const directories = new Map<string, DirectoryState>([['', { explicit: false, mtimeNs: undefined }]]);
  const foreignLinks: Unsettled['foreignLinks'] = [];
  let file: { fd: number; path: string } | undefined;

  const absolute = (path: string): string => (path === '' ? root : `${root}/${path}`);
  const join = (parent: string, name: string): string => (parent === '' ? name : `${parent}/${name}`);

  /**
   * The real directory (no symbolic link in it) that `parts` lead to. Missing ones are made when `create`;
   * otherwise the result is undefined.
   */
  function realDirectory(parts: readonly string[], create: boolean, of: string): string | undefined {
    const straight = parts.join('/');
    if (directories.has(straight)) return straight;
    const queue = [...parts];
    let at = '';
    let hops = 0;
    for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        at = at.includes('/') ? at.slice(0, at.lastIndexOf('/')) : '';
        continue;
      }
      const next = join(at, part);
      if (directories.has(next)) {
        at = next;
        continue;
      }
      const found = stat(next);
      if (found?.isSymbolicLink()) {
        if (++hops > maxLinkHops) refuse(of, 'which leads through a circle of symbolic links');
        const target = readlinkSync(fsPath(absolute(next)), 'buffer').toString('latin1');
        if (target.startsWith('/')) at = '';
        queue.unshift(...target.split('/'));
        continue;
      }
      if (!create) return undefined;
      const hidden = found !== undefined && isWhiteout(found);
      if (hidden) unlinkSync(fsPath(absolute(next)));
      else if (found) refuse(of, `but ${JSON.stringify(readable(next))} is not a directory`);
      makeDirectory(next, 0o755, false);
      if (hidden) markOpaque(next);
      at = next;
    }
    return at;
  }

  function stat(path: string): BigIntStats | undefined {
    return lstatSync(fsPath(absolute(path)), { bigint: true, throwIfNoEntry: false });
  }

  function makeDirectory(path: string, mode: number, explicit: boolean): void {
    mkdirSync(fsPath(absolute(path)), mode);
    directories.set(path, { explicit, mtimeNs: undefined });
  }

  const markOpaque = (path: string): void => setXattr(absolute(path), opaqueAttribute, Buffer.from('y'));

  /** `.wh.NAME`: hides NAME of the layers below (image-spec, layer.md, "Whiteouts"). */
  function hide(name: string, parent: string, base: string): void {
    if (base === opaqueMark) markOpaque(parent);
    if (base.startsWith(whiteoutMeta)) return; // the opaque mark, or aufs' own bookkeeping
    const hidden = base.slice(whiteoutPrefix.length);
    if (hidden === '' || hidden === '.' || hidden === '..') refuse(name, 'a whiteout of nothing');
    const path = join(parent, hidden);
    // What this same layer holds under the name stays; a directory must only stop merging with those below.
    if (directories.has(path)) markOpaque(path);
    else if (stat(path) === undefined) mknod(absolute(path), fileTypes.char, 0, 0);
  }

  /** Frees `path` for a new entry. Says whether what was there was a whiteout. */
  function clear(path: string): boolean {
    const found = stat(path);
    if (found === undefined) return false;
    if (found.isDirectory()) {
      for (const known of directories.keys()) {
        if (known === path || known.startsWith(`${path}/`)) directories.delete(known);
      }
      rmSync(fsPath(absolute(path)), { recursive: true });
    } else unlinkSync(fsPath(absolute(path)));
    return isWhiteout(found);
  }

  /** Runs `make`; when something is in the way, removes that and runs it again. */
  function replacing(path: string, make: () => void): boolean {
    try {
      make();
      return false;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      const wasWhiteout = clear(path);
      make();
      return wasWhiteout;
    }
  }

  function setOwnerAndMode(path: string, header: TarHeader): void {
    if (header.uid !== 0 || header.gid !== 0) lchownSync(fsPath(absolute(path)), header.uid, header.gid);
    if (header.type !== 'symlink') chmodSync(fsPath(absolute(path)), header.mode);
  }

  function setAttributes(path: string, header: TarHeader): void {
    for (const [name, value] of header.xattrs) {
      // The kernel's trusted attributes are for the host's programs, not for what comes in a layer; among them are
      // overlay's own, which would let a layer redirect names to files of its choice.
      if (/^(trusted|user\.overlay)\./.test(name)) continue;
      try {
        setXattr(absolute(path), name, value);
      } catch (error) {
        // A file system without attributes of this class can still hold the image, as in other runtimes.
        if (codeOf(error) !== 'EOPNOTSUPP' && codeOf(error) !== 'ENOTSUP') throw error;
      }
    }
  }

  function directory(path: string, header: TarHeader): void {
    const known = directories.get(path);
    if (known) known.explicit = true;
    else {
      const wasWhiteout = replacing(path, () => makeDirectory(path, header.mode & 0o777, true));
      if (wasWhiteout) markOpaque(path);
    }
    setOwnerAndMode(path, header);
    setAttributes(path, header);
    const state = directories.get(path);
    if (state) state.mtimeNs = header.mtimeNs;
  }

  function openFile(path: string, header: TarHeader): void {
    const flags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;
    replacing(path, () => {
      file = { fd: openSync(fsPath(absolute(path)), flags, header.mode & 0o777), path };
    });
  }

  function hardLink(path: string, header: TarHeader): void {
    const parts = cleanName(header.linkName);
    const base = parts.pop();
    if (base === undefined) refuse(header.name, 'a hard link to the root');
    const parent = realDirectory(parts, false, header.linkName);
    const target = parent === undefined ? undefined : join(parent, base);
    if (target === path) return;
    const found = target === undefined ? undefined : stat(target);
    if (target === undefined || found === undefined) {
      clear(path);
      foreignLinks.push({ path, target: [...parts, base].join('/') });
      return;
    }
    if (found.isDirectory() || isWhiteout(found)) {
      refuse(header.name, `a hard link to ${readable(header.linkName)}, which is not a file`);
    }
    replacing(path, () => linkSync(fsPath(absolute(target)), fsPath(absolute(path))));
  }

  function other(path: string, header: TarHeader): void {
    replacing(path, () => {
      switch (header.type) {
        case 'symlink':
          return symlinkSync(fsPath(header.linkName), fsPath(absolute(path)));
        case 'char':
          return mknod(absolute(path), fileTypes.char | header.mode, header.devMajor, header.devMinor);
        case 'block':
          return mknod(absolute(path), fileTypes.block | header.mode, header.devMajor, header.devMinor);
        default:
          return mknod(absolute(path), fileTypes.fifo | header.mode, 0, 0);
      }
    });
    setOwnerAndMode(path, header);
    setAttributes(path, header);
    setTimes(absolute(path), header.mtimeNs);
  }

  return {
    entry(header) {
      const parts = cleanName(header.name);
      const base = parts.pop();
      if (base === undefined) {
        if (header.type === 'directory') directory('', header);
        return;
      }
      const parent = realDirectory(parts, true, header.name);
      if (parent === undefined) return;
      if (base.startsWith(whiteoutPrefix)) return hide(header.name, parent, base);
      const path = join(parent, base);
      switch (header.type) {
        case 'directory':
          return directory(path, header);
        case 'file':
          return openFile(path, header);
        case 'hardlink':
          return hardLink(path, header);
        default:
          return other(path, header);
      }
    },

    data(chunk, position) {
      if (!file) return;
      for (let done = 0; done < chunk.length; ) {
        done += writeSync(file.fd, chunk, done, chunk.length - done, position + done);
      }
    },

    end(header) {
      if (!file) return;
      const { fd, path } = file;
      if (header.sparse) ftruncateSync(fd, header.size);
      if (header.uid !== 0 || header.gid !== 0) fchownSync(fd, header.uid, header.gid);
      if (header.mode & bitsToSetAfterwards) fchmodSync(fd, header.mode);
      if (header.xattrs.size > 0) setAttributes(path, header);
      // What Node can set by the descriptor: whole seconds, and not before 1970, in whose place it puts the present.
      if (header.mtimeNs >= 0n && header.mtimeNs % 1_000_000_000n === 0n) {
        const seconds = Number(header.mtimeNs / 1_000_000_000n);
        futimesSync(fd, seconds, seconds);
      } else setTimes(absolute(path), header.mtimeNs);
      file = undefined;
      closeSync(fd);
    },

    finish() {
      const implicitDirectories: string[] = [];
      for (const [path, { explicit, mtimeNs }] of directories) {
        if (!explicit) implicitDirectories.push(path);
        if (mtimeNs !== undefined) setTimes(absolute(path), mtimeNs);
      }
      return { implicitDirectories, foreignLinks };
    },

    abandon() {
      if (file) closeSync(file.fd);
      file = undefined;
    },
  };
}
