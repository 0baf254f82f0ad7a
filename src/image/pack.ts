// Writes an archive of files and small documents. Runs in a worker process.
import { randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import tar from 'tar-stream';

/** A member of the archive: a blob's file, or a small document. */
export type ArchiveMember = { name: string; path: string; size: number } | { name: string; text: string };

/** Writes `members` in order to `to`, by way of a file beside it, so that a half one is never found there; it and its members get `mode`. */
export async function packArchive(
  members: readonly ArchiveMember[],
  to: string,
  signal: AbortSignal,
  mode = 0o644,
): Promise<void> {
  // Others may write to the directory: what they put there is neither followed nor written to.
  const temporary = `${to}.${randomUUID()}.part`;
  const pack = tar.pack();
  const written = pipeline(pack, createWriteStream(temporary, { flags: 'wx', mode: 0o600 }), { signal });
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
    await chmod(temporary, mode);
    await rename(temporary, to);
  } catch (error) {
    pack.destroy();
    await written.catch(() => {});
    await rm(temporary, { force: true });
    throw error;
  }
}
