// Reads files of a container's root filesystem as the container would see them: every symbolic link,
// absolute or climbing, is taken as relative to that root, so an image cannot lead the daemon out of it.
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { codeOf } from '../../errors.ts';

/** Linux itself gives up after so many links (path_resolution(7)). */
const maxLinks = 40;
/** Far above any real /etc/passwd; keeps a hostile image from filling the daemon's memory. */
const maxFileBytes = 10 * 1024 * 1024;

/**
 * The host path of `inside`, a path as seen with `root` as `/`. The last component need not exist, or with `missing: 'any'`
 * none: what is not there leads nowhere else.
 * Throws an error with code ELOOP on a circle of links, ENOTDIR or ENOENT as the kernel would.
 */
export async function resolveInRoot(
  root: string,
  inside: string,
  { missing }: { missing: 'last' | 'any' } = { missing: 'last' },
): Promise<string> {
  const pending = inside.split('/').filter(part => part !== '' && part !== '.');
  let resolved: string[] = [];
  let links = 0;
  for (let part = pending.shift(); part !== undefined; part = pending.shift()) {
    if (part === '..') {
      resolved.pop();
      continue;
    }
    const candidate = path.join(root, ...resolved, part);
    const link = linkTarget(candidate, missing === 'any' || pending.length === 0);
    if (link === undefined) {
      resolved.push(part);
      continue;
    }
    links += 1;
    if (links > maxLinks) {
      throw Object.assign(new Error(`too many symbolic links in ${inside} below ${root}`), { code: 'ELOOP' });
    }
    if (link.startsWith('/')) resolved = [];
    pending.unshift(...link.split('/').filter(piece => piece !== '' && piece !== '.'));
  }
  return path.join(root, ...resolved);
}

function linkTarget(candidate: string, mayBeMissing: boolean): string | undefined {
  try {
    return lstatSync(candidate).isSymbolicLink() ? readlinkSync(candidate) : undefined;
  } catch (thrown) {
    if (mayBeMissing && codeOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

/** As resolveInRoot, for what must exist; undefined when nothing is there. */
export async function findInRoot(
  root: string,
  inside: string,
): Promise<{ path: string; isDirectory: boolean } | undefined> {
  try {
    const found = await resolveInRoot(root, inside);
    return { path: found, isDirectory: lstatSync(found).isDirectory() };
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(codeOf(thrown) ?? '')) return undefined;
    throw thrown;
  }
}

/** The text of a regular file inside `root`; undefined when there is none. Throws when it is no regular file or too big. */
export async function readTextInRoot(root: string, inside: string): Promise<string | undefined> {
  let file: number;
  try {
    const found = await resolveInRoot(root, inside);
    // O_NONBLOCK: an image may hold a FIFO of that name, which would block the open for ever.
    file = openSync(found, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT' || codeOf(thrown) === 'ENOTDIR') return undefined;
    throw thrown;
  }
  try {
    const status = fstatSync(file);
    if (!status.isFile()) throw new Error(`${inside} of the image is not a regular file`);
    if (status.size > maxFileBytes) {
      throw new Error(
        `${inside} of the image is ${status.size} bytes long; at most ${maxFileBytes} are read`,
      );
    }
    return readFileSync(file, 'utf8');
  } finally {
    closeSync(file);
  }
}
