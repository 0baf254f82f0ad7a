// At start: makes the disk agree with the records again, after a kill or a machine that went down.
import type { ContentStore } from './content.ts';
import type { Durability } from './durability.ts';
import type { LayerStore } from './layers.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecords } from './records.ts';

export interface RecoveryReport {
  /** Names without an image, layer directories without a record: removed. */
  names: number;
  layerDirectories: number;
  /** Images whose data may not have reached the disk before the machine went down: removed, to be pulled again. */
  doubtedImages: string[];
  doubtedBlobs: string[];
  /** Images whose layers are missing: removed. */
  incompleteImages: string[];
}

export async function recoverImages(parts: {
  records: ImageRecords;
  content: ContentStore;
  layers: LayerStore;
  durability: Durability;
  pool: WorkerPool;
}): Promise<RecoveryReport> {
  const { records, content, layers, durability, pool } = parts;
  const report: RecoveryReport = {
    names: 0,
    layerDirectories: 0,
    doubtedImages: [],
    doubtedBlobs: [],
    incompleteImages: [],
  };
  const since = durability.doubtedSince();
  if (since !== undefined) {
    for (const [id, image] of records.images.entries()) {
      if (image.createdAtMs < since) continue;
      report.doubtedImages.push(id);
      await records.images.remove(id);
    }
    for (const [chainId, layer] of records.layers.entries()) {
      if (layer.createdAtMs >= since) await records.layers.remove(chainId);
    }
    for (const blob of await content.list()) {
      if (blob.modifiedMs < since) continue;
      const { digest } = await pool.run('hash', { path: content.path(blob.digest) });
      if (digest === blob.digest) continue;
      report.doubtedBlobs.push(blob.digest);
      await content.remove(blob.digest);
    }
    // An image that was there before may have come again under another manifest, with blobs that were in flight.
    for (const [id, image] of records.images.entries()) {
      if (image.blobs.every(digest => content.has(digest))) continue;
      report.doubtedImages.push(id);
      await records.images.remove(id);
    }
    await durability.settled();
  }
  for (const [id, image] of records.images.entries()) {
    if (image.chain.every(chainId => layers.get(chainId))) continue;
    report.incompleteImages.push(id);
    await records.images.remove(id);
  }
  for (const [name, { image }] of records.names.entries()) {
    if (records.images.get(image)) continue;
    await records.names.remove(name);
    report.names++;
  }
  report.layerDirectories = await layers.sweep();
  return report;
}
