// Writes an archive of files and small documents. Runs in a worker process.
import { randomUUID } from 'node:crypto';
import { createReadStream, renameSync, rmSync } from 'node:fs';
import { type FileHandle, open, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import tar from 'tar-stream';
import { codeOf } from '../errors.ts';
import { nameFile, openUnnamed } from '../host/files-ffi.ts';
import { latin1Path } from './unpack.ts';

/** A member of the archive: a blob's file, or a small document. */
export type ArchiveMember = { name: string; path: string; size: number } | { name: string; text: string };

/**
 * Writes `members` in order to `to`; the file and its members get `mode`. The file has its name when it is complete: until
 * then it has none, so that a process that is killed leaves nothing.
 */
export async function packArchive(
  members: readonly ArchiveMember[],
  to: string,
  signal: AbortSignal,
  mode = 0o644,
): Promise<void> {
  const { file, finish, giveUp } = await openDraft(to);
  const pack = tar.pack();
  const written = writeFile(file, chunksOf(pack), { signal });
  try {
    for (const member of members) {
      if ('text' in member) pack.entry({ name: member.name, mode }, member.text);
      else {
        const entry = pack.entry({ name: member.name, size: member.size, mode });
        await Promise.race([pipeline(createReadStream(member.path), entry), written]);
      }
    }
    pack.finalize();
    await written;
    await file.chmod(mode);
    finish();
  } catch (error) {
    pack.destroy();
    await written.catch(() => {});
    giveUp();
    throw error;
  } finally {
    await file.close();
  }
}

const chunksOf = (pack: tar.Pack) => pack as AsyncIterable<Buffer>;

interface Draft {
  file: FileHandle;
  /** Gives it its name, in the place of what has that name. */
  finish(): void;
  giveUp(): void;
}

/** A new file that will be called `to`. Others may write to the directory: what they put there is neither followed nor written to. */
async function openDraft(to: string): Promise<Draft> {
  const temporary = `${to}.${randomUUID()}.part`;
  try {
    const file = await openUnnamed(dirname(to), 0o600);
    return { file, finish: () => nameInPlace(file.fd, to, temporary), giveUp() {} };
  } catch (error) {
    // NFS, for one, has no files without a name: a named one stands beside it until it is complete.
    if (codeOf(error) !== 'EOPNOTSUPP') throw error;
    const file = await open(temporary, 'wx', 0o600);
    return {
      file,
      finish: () => renameSync(temporary, to),
      giveUp: () => rmSync(temporary, { force: true }),
    };
  }
}

function nameInPlace(fd: number, to: string, temporary: string): void {
  try {
    nameFile(fd, latin1Path(to));
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    nameFile(fd, latin1Path(temporary)); // a link cannot take the place of another file, a rename can
    renameSync(temporary, to);
  }
}
