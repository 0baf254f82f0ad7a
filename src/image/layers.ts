// The layer store: each layer of an image unpacked once, in a directory of its own, and shared by every image
// whose chain leads through it (image-spec, "Layer ChainID").
//
//     <root>/layers/<n>         one layer in overlayfs form
//     <root>/layers/empty-<i>   nothing, for images with fewer layers than an overlay mount needs
import { setMaxListeners } from 'node:events';
import { chmod, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CriError } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';
import type { Collection } from '../store/store.ts';
import type { ContentStore } from './content.ts';
import type { BlobSource, DiskUsage } from './jobs.ts';
import type { Leases } from './leases.ts';
import type { Compression } from './media-types.ts';
import { chainIds } from './oci.ts';
import type { WorkerPool } from './pool.ts';
import type { LayerRecord } from './records.ts';
import { settleLayer } from './settle.ts';
import { createSemaphore, createSharedTasks, unlessAborted } from './shared-task.ts';
import { latin1Path, type Unsettled } from './unpack.ts';

/** A layer as an image needs it. */
export interface WantedLayer {
  /** The blob, by the digest and size that the manifest states. */
  readonly digest: string;
  readonly size: number;
  readonly compression: Compression | 'sniff';
  /** Digest of the uncompressed archive, by the image's config. */
  readonly diffId: string;
  readonly source: BlobSource;
}

/** Where a layer stands, for whoever watches an operation. */
export interface LayerProgress {
  digest: string;
  phase: 'waiting' | 'downloading' | 'unpacking' | 'done' | 'exists';
  /** Bytes of the blob that have been seen, of `total`. */
  bytes: number;
  total: number;
}

export interface LayerStore {
  readonly directory: string;
  /** Makes sure that all layers, the lowest first, are unpacked; returns their chainIDs. */
  ensure(
    layers: readonly WantedLayer[],
    options: { signal: AbortSignal; onProgress?: ((progress: LayerProgress) => void) | undefined },
  ): Promise<string[]>;
  get(chainId: string): LayerRecord | undefined;
  path(n: number): string;
  /** Two empty directories. */
  readonly empty: readonly [string, string];
  /** Removes layers that are neither in what `used` says nor held by an operation. Returns how many. */
  collect(used: () => ReadonlySet<string>): Promise<number>;
  /** Removes directories that no record mentions: what a kill left. Returns how many. */
  sweep(): Promise<number>;
  usage(): Promise<DiskUsage>;
}

export interface LayerStoreParts {
  root: string;
  records: Collection<LayerRecord>;
  content: ContentStore;
  pool: WorkerPool;
  leases: Leases;
  /** Layers fetched and unpacked at the same time. */
  concurrency: number;
  /** Resolves when the records are on the disk as they are now. */
  flushed(): Promise<void>;
  now: () => number;
}

/** Opens the layer store. */
export async function openLayerStore(parts: LayerStoreParts): Promise<LayerStore> {
  const { records, content, pool, leases } = parts;
  const directory = join(parts.root, 'layers');
  const empty = [join(directory, 'empty-0'), join(directory, 'empty-1')] as const;
  // Nobody but root may come at the programs of images, of which some run with the rights of their owner.
  await makeDirectories(directory, 0o700);
  await chmod(directory, 0o700);
  for (const path of empty) await makeDirectories(path, 0o755);
  const inFlight = createSharedTasks<LayerRecord>();
  /** Of layers in flight, by chainID: the number of the directory, when its files are complete. */
  const completing = new Map<string, Promise<number>>();
  const blobsInFlight = new Map<string, Promise<unknown>>();
  /** Layers by chainID whose record is about to go: the store shows it until its removal is committed. */
  const leaving = new Set<string>();
  const slots = createSemaphore(parts.concurrency);
  let next = 1 + Math.max(0, ...(await numbersOnDisk()), ...records.entries().map(([, record]) => record.n));

  const path = (n: number): string => join(directory, String(n));
  const get = (chainId: string) => (leaving.has(chainId) ? undefined : records.get(chainId));

  async function numbersOnDisk(): Promise<number[]> {
    return (await readdir(directory)).filter(name => /^[0-9]+$/.test(name)).map(Number);
  }

  async function ensure(
    layers: readonly WantedLayer[],
    options: { signal: AbortSignal; onProgress?: ((progress: LayerProgress) => void) | undefined },
  ): Promise<string[]> {
    const chain = chainIds(layers.map(layer => layer.diffId));
    // One layer that fails ends the others: nobody waits for the rest of an image that cannot be.
    const all = new AbortController();
    const signal = AbortSignal.any([options.signal, all.signal]);
    setMaxListeners(0, signal); // one for each layer
    const recorded: Promise<LayerRecord>[] = [];
    const directories: (number | Promise<number>)[] = [];
    layers.forEach((layer, index) => {
      const chainId = chain[index] ?? '';
      const report = (phase: LayerProgress['phase'], bytes: number) =>
        options.onProgress?.({ digest: layer.digest, phase, bytes, total: layer.size });
      const existing = get(chainId);
      if (existing) {
        report('exists', layer.size);
        directories.push(existing.n);
        recorded.push(Promise.resolve(existing));
        return;
      }
      const below = [...directories];
      const task = inFlight.run(chainId, signal, shared => make(layer, chainId, below, shared, report));
      task.catch(() => all.abort());
      const complete = completing.get(chainId) ?? task.then(({ n }) => n);
      complete.catch(() => {}); // the task tells
      directories.push(complete);
      recorded.push(task);
    });
    const results = await Promise.allSettled(recorded);
    const failed = results.find(
      result =>
        result.status === 'rejected' &&
        !(result.reason instanceof CriError && result.reason.kind === 'cancelled'),
    );
    options.signal.throwIfAborted();
    if (failed?.status === 'rejected') throw failed.reason;
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    return chain;
  }

  /** Makes and records one layer; leaves nothing but its blob when it fails. */
  async function make(
    layer: WantedLayer,
    chainId: string,
    below: readonly (number | Promise<number>)[],
    signal: AbortSignal,
    report: (phase: LayerProgress['phase'], bytes: number) => void,
  ): Promise<LayerRecord> {
    const n = next++;
    const release = leases.hold([directoryKey(n)]);
    const files = makeFiles(layer, n, below, signal, report);
    completing.set(chainId, files);
    try {
      await files;
      signal.throwIfAborted();
      const record: LayerRecord = { n, diffId: layer.diffId, createdAtMs: parts.now() };
      await records.put(chainId, record);
      report('done', layer.size);
      return record;
    } catch (error) {
      // What cannot be removed now has no record and is swept at the next start.
      await pool.run('remove', { path: path(n) }).catch(() => {});
      throw error;
    } finally {
      if (completing.get(chainId) === files) completing.delete(chainId);
      release();
    }
  }

  /**
   * Fetches, unpacks and settles one layer; returns `n`. The layers above it need its files and not its record, and do
   * not wait for that.
   */
  async function makeFiles(
    layer: WantedLayer,
    n: number,
    below: readonly (number | Promise<number>)[],
    signal: AbortSignal,
    report: (phase: LayerProgress['phase'], bytes: number) => void,
  ): Promise<number> {
    report('waiting', 0);
    const { diffId, unsettled } = await slots.hold(signal, () => fetchAndUnpack(layer, n, signal, report));
    if (diffId !== layer.diffId) {
      throw new CriError(
        'imageFailed',
        `layer ${layer.digest} unpacks to ${diffId}, the image's config states diffID ${layer.diffId}`,
      );
    }
    const lower = (await unlessAborted(Promise.all(below), signal)).map(path).reverse();
    if (lower.length > 0) await settle(path(n), lower, unsettled);
    else if (unsettled.foreignLinks.length > 0) {
      throw new CriError(
        'imageFailed',
        `layer ${layer.digest} has a hard link to a file that it does not hold`,
      );
    }
    return n;
  }

  /** Nearly every layer leaves its root alone to be settled; that takes less than a message to a worker. */
  async function settle(directory: string, lower: string[], unsettled: Unsettled): Promise<void> {
    const { implicitDirectories, foreignLinks } = unsettled;
    if (implicitDirectories.length + foreignLinks.length === 0) return;
    const isRootAlone = foreignLinks.length === 0 && implicitDirectories.every(name => name === '');
    if (isRootAlone) settleLayer(latin1Path(directory), lower.map(latin1Path), unsettled);
    else await pool.run('settle', { layer: directory, lower, unsettled });
  }

  /** A blob that is being fetched for another layer of the same content is waited for, not fetched twice. */
  async function fetchAndUnpack(
    layer: WantedLayer,
    n: number,
    signal: AbortSignal,
    report: (phase: LayerProgress['phase'], bytes: number) => void,
  ) {
    for (let other = blobsInFlight.get(layer.digest); other; other = blobsInFlight.get(layer.digest)) {
      await unlessAborted(
        other.catch(() => {}),
        signal,
      );
    }
    const stored = content.has(layer.digest);
    const phase = stored || layer.source.kind === 'file' ? 'unpacking' : 'downloading';
    report(phase, 0);
    const job = pool.run(
      'layer',
      {
        source: stored
          ? { kind: 'file', path: content.path(layer.digest), offset: 0, length: layer.size }
          : layer.source,
        digest: layer.digest,
        size: layer.size,
        compression: layer.compression,
        keep: stored ? undefined : { partial: content.partialPath(layer.digest), blobs: content.blobs },
        unpackInto: path(n),
      },
      {
        signal,
        onProgress: bytes => report(bytes < layer.size ? phase : 'unpacking', bytes),
        bytes: layer.size,
      },
    );
    if (!stored) {
      blobsInFlight.set(layer.digest, job);
      const forget = () => void blobsInFlight.delete(layer.digest);
      job.then(forget, forget);
    }
    return job;
  }

  return {
    directory,
    ensure,
    get,
    path,
    empty,
    async collect(used) {
      const free = (chainId: string, inUse: ReadonlySet<string>) =>
        !inUse.has(chainId) && !leases.has(chainId) && !leaving.has(chainId);
      const inUse = used();
      const going: number[] = [];
      try {
        for (const [chainId, { n }] of records.entries().filter(([id]) => free(id, inUse))) {
          // Asked again, because an operation may have ended while another layer was removed.
          if (!free(chainId, used())) continue;
          leaving.add(chainId);
          await records.remove(chainId).finally(() => leaving.delete(chainId));
          going.push(n);
        }
      } finally {
        // The records go first, on the disk too: a directory without one is swept, a record without a directory lies.
        if (going.length > 0) await parts.flushed();
        for (const n of going) await pool.run('remove', { path: path(n) });
      }
      return going.length;
    },
    async sweep() {
      const known = new Set(records.entries().map(([, record]) => record.n));
      const left = (await numbersOnDisk()).filter(n => !known.has(n) && !leases.has(directoryKey(n)));
      for (const n of left) await pool.run('remove', { path: path(n) });
      return left.length;
    },
    async usage() {
      const total: DiskUsage = { bytes: 0, inodes: 0 };
      for (const [chainId, record] of records.entries()) {
        const usage = record.usage ?? (await pool.run('measure', { path: path(record.n) }));
        if (record.usage === undefined && get(chainId)?.n === record.n) {
          await records.put(chainId, { ...record, usage });
        }
        total.bytes += usage.bytes;
        total.inodes += usage.inodes;
      }
      return total;
    },
  };
}

const directoryKey = (n: number): string => `layer-directory ${n}`;
