// The content store: blobs by digest, as registries name them.
//
//     <root>/content/blobs/sha256/<hex>   complete and verified; the name appears by rename
//     <root>/content/ingest/<hex>         what has arrived of a blob so far, to go on from
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CriError, codeOf } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';
import { maxDocumentBytes } from './media-types.ts';
import { sha256 } from './oci.ts';

export interface BlobInfo {
  digest: string;
  size: number;
  modifiedMs: number;
}

export interface ContentStore {
  /** Directory of complete blobs, each named by the hex of its digest. */
  readonly blobs: string;
  readonly directory: string;
  has(digest: string): boolean;
  path(digest: string): string;
  /** Where a blob gathers until it is complete. */
  partialPath(digest: string): string;
  /** A new name beside the partial blobs, for what has no digest yet. */
  temporaryPath(): string;
  /** Keeps a small document; returns its digest. */
  put(bytes: Uint8Array): Promise<string>;
  /** A small document, verified again. @throws CriError imageFailed: missing, too large, or damaged. */
  read(digest: string): Promise<Buffer>;
  list(): Promise<BlobInfo[]>;
  remove(digest: string): Promise<void>;
  /** Names under `ingest/` and when they last grew. */
  listPartial(): Promise<{ path: string; modifiedMs: number }[]>;
}

const prefix = 'sha256:';
const temporaryPrefix = 'tmp-';

/** Whether a file under `ingest/` is one of those without a digest. */
export const isTemporary = (name: string): boolean => name.startsWith(temporaryPrefix);

/** Opens the content store below `root`, making its directories when they are missing. */
export async function openContentStore(root: string): Promise<ContentStore> {
  const directory = join(root, 'content');
  const blobs = join(directory, 'blobs', 'sha256');
  const ingest = join(directory, 'ingest');
  await makeDirectories(blobs, 0o700);
  await makeDirectories(ingest, 0o700);

  const path = (digest: string): string => {
    if (!/^sha256:[a-f0-9]{64}$/.test(digest)) {
      throw new CriError('imageFailed', `${digest} cannot be stored: only sha256 digests are supported`);
    }
    return join(blobs, digest.slice(prefix.length));
  };
  const temporaryPath = () => join(ingest, `${temporaryPrefix}${randomUUID()}`);

  return {
    blobs,
    directory,
    has: digest => existsSync(path(digest)),
    path,
    partialPath: digest => join(ingest, path(digest).slice(blobs.length + 1)),
    temporaryPath,
    async put(bytes) {
      const digest = sha256(bytes);
      if (existsSync(path(digest))) return digest;
      const temporary = temporaryPath();
      try {
        await writeFile(temporary, bytes, { mode: 0o600 });
        await rename(temporary, path(digest));
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
      return digest;
    },
    async read(digest) {
      const bytes = await readDocument(path(digest), digest);
      const found = `${prefix}${createHash('sha256').update(bytes).digest('hex')}`;
      if (found === digest) return bytes;
      throw new CriError(
        'imageFailed',
        `blob ${digest} in the content store is damaged (it hashes to ${found}): remove the image and pull it again`,
      );
    },
    async list() {
      const names = await readdir(blobs);
      const found = await Promise.all(names.map(name => info(join(blobs, name), `${prefix}${name}`)));
      return found.filter(blob => blob !== undefined);
    },
    async remove(digest) {
      await rm(path(digest), { force: true });
    },
    async listPartial() {
      const names = await readdir(ingest);
      const found = await Promise.all(names.map(name => info(join(ingest, name), name)));
      return found
        .filter(partial => partial !== undefined)
        .map(({ digest, modifiedMs }) => ({ path: join(ingest, digest), modifiedMs }));
    },
  };
}

async function info(path: string, digest: string): Promise<BlobInfo | undefined> {
  try {
    const { size, mtimeMs } = await stat(path);
    return { digest, size, modifiedMs: mtimeMs };
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function readDocument(path: string, digest: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > maxDocumentBytes)
      throw new CriError('imageFailed', `blob ${digest} is too large for a document`);
    return await readFile(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    throw new CriError('imageFailed', `blob ${digest} is not in the content store: pull the image again`);
  }
}
