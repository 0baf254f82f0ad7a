// Opens what `image import` is given: a directory (OCI layout) or a tar archive, compressed or not. Members
// are found by name and read in place; nothing is extracted.
import { createReadStream } from 'node:fs';
import { open, readFile, rm, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { CriError, codeOf } from '../errors.ts';
import { sniffCompression } from './decompress.ts';
import { maxDocumentBytes } from './media-types.ts';
import type { WorkerPool } from './pool.ts';
import { createTarReader, type TarHeader } from './tar/reader.ts';
import { cleanName } from './unpack.ts';

/** Where a member's bytes lie. */
export interface Member {
  path: string;
  offset: number;
  length: number;
}

export interface Archive {
  locate(name: string): Promise<Member | undefined>;
  /** A small document, or undefined when there is none of that name. */
  read(name: string): Promise<Buffer | undefined>;
  close(): Promise<void>;
}

const maxMembers = 200_000;
const window = 64 * 1024;

/**
 * Opens `path`. A compressed archive is inflated to `temporary` first and removed by `close`.
 * @throws CriError invalidArgument when there is nothing, imageFailed when it is no archive.
 */
export async function openArchive(
  path: string,
  { pool, temporary, signal }: { pool: WorkerPool; temporary: string; signal: AbortSignal },
): Promise<Archive> {
  const found = await stat(path).catch(error => {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
    throw new CriError('invalidArgument', `${path} does not exist: nothing to import`);
  });
  if (found.isDirectory()) return openDirectory(path);
  const compression = sniffCompression(await firstBytes(path));
  if (compression === 'none') return openTar(path, async () => {});
  const discard = () => rm(temporary, { force: true });
  try {
    await pool.run('inflate', { from: path, to: temporary, compression }, { signal });
    return await openTar(temporary, discard);
  } catch (error) {
    await discard();
    throw error;
  }
}

function openDirectory(directory: string): Archive {
  const locate = async (name: string): Promise<Member | undefined> => {
    const path = join(directory, ...cleanName(name));
    const found = await stat(path).catch(() => undefined);
    return found?.isFile() ? { path, offset: 0, length: found.size } : undefined;
  };
  return { locate, read: name => readMember(locate, name), close: async () => {} };
}

async function openTar(path: string, close: () => Promise<void>): Promise<Archive> {
  const members = await indexTar(path);
  const locate = async (name: string): Promise<Member | undefined> => {
    // Older `docker save` links equal layers to one another.
    let at = cleanName(name).join('/');
    for (let hops = 0; hops < 16; hops++) {
      const member = members.get(at);
      if (member === undefined || typeof member !== 'string') return member;
      at = member;
    }
    return undefined;
  };
  return { locate, read: name => readMember(locate, name), close };
}

async function readMember(locate: Archive['locate'], name: string): Promise<Buffer | undefined> {
  const member = await locate(name);
  if (!member) return undefined;
  if (member.length > maxDocumentBytes) {
    throw new CriError(
      'imageFailed',
      `${name} has ${member.length} bytes, more than the ${maxDocumentBytes} allowed`,
    );
  }
  if (member.length === 0) return Buffer.alloc(0);
  if (member.offset === 0) return readFile(member.path);
  const { path, offset, length } = member;
  const chunks: Buffer[] = [];
  for await (const chunk of createReadStream(path, { start: offset, end: offset + length - 1 }))
    chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Members of a tar file by cleaned name: where they lie, or the name that a link leads to. */
async function indexTar(path: string): Promise<Map<string, Member | string>> {
  const members = new Map<string, Member | string>();
  let consumed = 0;
  const handler = {
    entry(header: TarHeader) {
      if (members.size > maxMembers)
        throw new CriError('imageFailed', `${path} has more than ${maxMembers} members`);
      const name = cleanName(header.name).join('/');
      if (header.type === 'symlink') {
        members.set(name, posix.normalize(posix.join(posix.dirname(name), header.linkName)));
      } else if (header.type === 'hardlink') members.set(name, cleanName(header.linkName).join('/'));
      else if (header.type === 'file' && !header.sparse)
        members.set(name, { path, offset: -1, length: header.size });
      last = members.get(name);
    },
    data() {},
    end() {},
  };
  let last: Member | string | undefined;
  const reader = createTarReader(handler);
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(window);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, window, consumed);
      if (bytesRead === 0) break;
      // Header by header, so that it is known where each member's contents begin.
      for (let at = 0; at < bytesRead; ) {
        const take = Math.min(512 - (consumed % 512), bytesRead - at);
        reader.write(buffer.subarray(at, at + take));
        at += take;
        consumed += take;
        if (typeof last === 'object' && last.offset < 0) last.offset = consumed;
        const skip = reader.skippable();
        if (skip === 0) continue;
        reader.skipped(skip);
        consumed += skip;
        at += skip;
      }
    }
    reader.finish();
  } finally {
    await file.close();
  }
  return members;
}

async function firstBytes(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(8);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
