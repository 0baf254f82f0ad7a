// Settles what a layer, unpacked by itself, has to take from the layers below it: owner, mode and times of
// directories that its archive does not mention, and hard links to files of lower layers, which overlayfs
// would have copied up. Runs after the layers below are settled themselves.
import {
  chmodSync,
  copyFileSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  type Stats,
  symlinkSync,
} from 'node:fs';
import { CriError } from '../errors.ts';
import { deviceNumbers } from '../host/device-numbers.ts';
import { fileTypes, getXattr, listXattrs, mknod, setTimes, setXattr } from '../host/files-ffi.ts';
import { copySparse } from '../host/sparse-files.ts';
import { fsPath, isOpaque, isWhiteout, readable, type Unsettled } from './unpack.ts';

/** Completes the layer in `layer`; `lower` are the layers below it, the nearest first. Absolute paths. */
export function settleLayer(layer: string, lower: readonly string[], unsettled: Unsettled): void {
  for (const path of unsettled.implicitDirectories) {
    if (isOpaque(`${layer}/${path}`)) continue;
    const below = findBelow(lower, path);
    if (below?.stat.isDirectory()) copyMetadata(below.path, `${layer}/${path}`, below.stat);
  }
  for (const { path, target } of unsettled.foreignLinks) link(layer, lower, path, target);
}

interface Found {
  path: string;
  stat: Stats;
}

/** The topmost `path` in the layers, as overlayfs would show it: whiteouts and opaque directories end the search. */
function findBelow(lower: readonly string[], path: string): Found | undefined {
  const parts = path === '' ? [] : path.split('/');
  for (const root of lower) {
    let at = root;
    let stat = statOf(at);
    let hidden = false;
    for (const part of parts) {
      if (!stat?.isDirectory()) break;
      hidden ||= isOpaque(at);
      at = `${at}/${part}`;
      stat = statOf(at);
    }
    const reached = at.length - root.length === (path === '' ? 0 : path.length + 1);
    if (stat && reached) return isWhiteout(stat) ? undefined : { path: at, stat };
    // Something that is no directory stands in the way, or the directory that should hold it is opaque.
    if (stat || hidden) return undefined;
  }
  return undefined;
}

function statOf(path: string): Stats | undefined {
  return lstatSync(fsPath(path), { throwIfNoEntry: false });
}

function copyMetadata(from: string, to: string, stat: Stats): void {
  lchownSync(fsPath(to), stat.uid, stat.gid);
  if (!stat.isSymbolicLink()) chmodSync(fsPath(to), stat.mode & 0o7777);
  for (const name of listXattrs(from)) {
    const value = name.startsWith('trusted.') ? undefined : getXattr(from, name);
    if (value) setXattr(to, name, value);
  }
  const exact = lstatSync(fsPath(from), { bigint: true });
  setTimes(to, exact.mtimeNs);
}

/** Makes a hard link whose target a lower layer holds, as overlayfs would have: the target is copied up. */
function link(layer: string, lower: readonly string[], path: string, target: string): void {
  // A later entry of the same archive may have put a link where the name's directory was, or taken the name.
  if (!isRealDirectory(layer, parentOf(path)) || statOf(`${layer}/${path}`)) return;
  makeParents(layer, lower, target);
  const to = `${layer}/${target}`;
  if (!statOf(to)) {
    const below = findBelow(lower, target);
    if (!below || below.stat.isDirectory()) {
      throw new CriError(
        'imageFailed',
        `the layer holds ${JSON.stringify(readable(path))}, a hard link to ${JSON.stringify(readable(target))}, which is in no layer of the image`,
      );
    }
    copyUp(below, to);
  }
  linkSync(fsPath(to), fsPath(`${layer}/${path}`));
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** Whether `path` leads through nothing but directories; a symbolic link could lead out of the layer. */
function isRealDirectory(layer: string, path: string): boolean {
  const parts = path === '' ? [] : path.split('/');
  return parts.every((_, index) => statOf(`${layer}/${parts.slice(0, index + 1).join('/')}`)?.isDirectory());
}

function makeParents(layer: string, lower: readonly string[], path: string): void {
  const parts = path.split('/').slice(0, -1);
  parts.forEach((_, index) => {
    const parent = parts.slice(0, index + 1).join('/');
    const here = statOf(`${layer}/${parent}`);
    if (here?.isDirectory()) return;
    if (here) {
      throw new CriError(
        'imageFailed',
        `the layer links through ${JSON.stringify(readable(parent))}, which is not a directory`,
      );
    }
    mkdirSync(fsPath(`${layer}/${parent}`));
    const below = findBelow(lower, parent);
    if (below) copyMetadata(below.path, `${layer}/${parent}`, below.stat);
  });
}

function copyUp({ path, stat }: Found, to: string): void {
  // The file's size is what its archive states: written out, its holes could fill the disk.
  if (stat.isFile() && stat.blocks * 512 < stat.size) copySparse(fsPath(path), fsPath(to));
  else if (stat.isFile()) copyFileSync(fsPath(path), fsPath(to));
  else if (stat.isSymbolicLink()) symlinkSync(readlinkSync(fsPath(path), 'buffer'), fsPath(to));
  else {
    const type = stat.isFIFO() ? fileTypes.fifo : stat.isBlockDevice() ? fileTypes.block : fileTypes.char;
    const { major, minor } = deviceNumbers(BigInt(stat.rdev));
    mknod(to, type | (stat.mode & 0o7777), major, minor);
  }
  copyMetadata(path, to, stat);
}
