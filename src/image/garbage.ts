// What no image and no container uses any more: which layers and blobs that is, and their removal. What operations
// under way hold (leases.ts) is left alone.
import { basename } from 'node:path';
import { type BlobInfo, type ContentStore, isTemporary } from './content.ts';
import type { LayerStore } from './layers.ts';
import type { Leases } from './leases.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecords } from './records.ts';

export interface Garbage {
  /** Removes unused layers; returns how many. */
  collectLayers(): Promise<number>;
  /** Removes unused blobs that are older than `olderThanMs`, or named in `orphaned`. */
  collectBlobs(olderThanMs: number, orphaned: ReadonlySet<string>): Promise<{ blobs: number; bytes: number }>;
  /** At start, when nobody is at work: removes files that were being written under a name of no meaning. */
  collectTemporary(): Promise<void>;
}

/** Blobs of pulls that did not end are kept so long, for the next attempt. */
export const leftoversKeptMs = 24 * 60 * 60 * 1000;
const temporaryKeptMs = 60 * 60 * 1000;

export function createGarbage(parts: {
  records: ImageRecords;
  content: ContentStore;
  layers: LayerStore;
  leases: Leases;
  pool: WorkerPool;
  /** Resolves when the records are on the disk as they are now. */
  flushed(): Promise<void>;
  now: () => number;
}): Garbage {
  const { records, content, layers, leases, pool, flushed, now } = parts;

  function usedLayers(): Set<string> {
    const used = new Set<string>();
    for (const [, image] of records.images.entries()) for (const chainId of image.chain) used.add(chainId);
    for (const [, { chain }] of records.rootfs.entries()) for (const chainId of chain) used.add(chainId);
    return used;
  }

  const usedBlobs = () => new Set(records.images.entries().flatMap(([, image]) => image.blobs));

  return {
    collectLayers: () => layers.collect(usedLayers),
    async collectBlobs(olderThanMs, orphaned) {
      const used = usedBlobs();
      const before = now() - olderThanMs;
      let blobs = 0;
      let bytes = 0;
      const isUnused = ({ digest, modifiedMs }: BlobInfo) =>
        !used.has(digest) && !leases.has(digest) && (modifiedMs <= before || orphaned.has(digest));
      const unused = (await content.list()).filter(isUnused);
      // After a power cut no record of an image may come back whose blobs have gone.
      if (unused.length > 0) await flushed();
      for (const blob of unused) {
        // Asked again, because an operation may have ended while another blob was removed.
        if (usedBlobs().has(blob.digest) || leases.has(blob.digest)) continue;
        await content.remove(blob.digest);
        blobs++;
        bytes += blob.size;
      }
      for (const partial of await content.listPartial()) {
        const name = basename(partial.path);
        // A temporary file has no digest to be held by; a young one belongs to someone.
        const limit = isTemporary(name) ? Math.min(before, now() - temporaryKeptMs) : before;
        if (partial.modifiedMs > limit || leases.has(`sha256:${name}`)) continue;
        await pool.run('remove', { path: partial.path });
        blobs++;
      }
      return { blobs, bytes };
    },
    async collectTemporary() {
      for (const { path } of await content.listPartial()) {
        if (isTemporary(basename(path))) await pool.run('remove', { path });
      }
    },
  };
}
