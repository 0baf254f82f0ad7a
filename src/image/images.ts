// The image part as the rest of the daemon sees it: built once, with everything below it wired together. The
// functions here are what CRI's ImageService and `cri-ts image` are made of.
import { lstat, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CriError } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';
import type { HostThread } from '../host/host-thread.ts';
import type { Logger } from '../log.ts';
import { createEngine, type Engine } from '../steps/engine.ts';
import type { Store } from '../store/store.ts';
import { openArchive } from './archive.ts';
import { openContentStore } from './content.ts';
import { createDurability } from './durability.ts';
import { exportImages } from './export.ts';
import { createGarbage, leftoversKeptMs } from './garbage.ts';
import { importArchive } from './import.ts';
import type { DiskUsage } from './jobs.ts';
import { type LayerProgress, openLayerStore } from './layers.ts';
import { createLeases } from './leases.ts';
import { imagePlans } from './lifecycle.ts';
import { measureSmall } from './measure-small.ts';
import { maxDocumentBytes } from './media-types.ts';
import { type ImageConfig, type Platform, type RunConfig, runConfigSchema } from './oci.ts';
import type { ArchiveMember } from './pack.ts';
import { hostPlatform } from './platform.ts';
import { createWorkerPool } from './pool.ts';
import { type PullOptions, type PullParts, pullImage } from './pull.ts';
import { type ImageRecord, openRecords } from './records.ts';
import { type RecoveryReport, recoverImages } from './recover.ts';
import { bareRepository, formatReference, isDigest, parseReference, repositoryOf } from './reference.ts';
import { proxyFromEnvironment } from './registry/proxy.ts';
import { createTransport } from './registry/transport.ts';
import { createRootFilesystems, type RootFilesystems } from './rootfs.ts';
import { createSharedTasks } from './shared-task.ts';
import type { VerifierOptions } from './verifiers.ts';
import { type Damage, type VerifyProgress, verifyStore } from './verify.ts';
import { createWorks } from './works.ts';

export interface ImagesOptions {
  /** Survives a reboot: content, layers, writable layers. Absolute. */
  root: string;
  /** Need not survive a reboot: mount points. Absolute. */
  state: string;
  store: Store;
  log: Logger;
  /** Runs the steps of pulls, imports and removals. Default: one without observers. */
  engine?: Engine;
  host: Pick<HostThread, 'mountOverlay' | 'settled'>;
  /** References of images that kubelet must not garbage-collect, such as the sandbox image. */
  pinned?: readonly string[];
  /** Layers fetched and unpacked at the same time, over all images. */
  maxConcurrentDownloads?: number;
  platform?: Platform;
  registry?: {
    /** Directories with `HOST/hosts.toml`. */
    configPaths?: readonly string[];
    headers?: ReadonlyMap<string, readonly string[]>;
  };
  /** A pull that receives next to nothing for so long is given up; undefined = never. */
  pullProgressTimeoutMs?: number | undefined;
  /** Executables that may refuse images (src/image/verifiers.ts). */
  verifiers?: VerifierOptions | undefined;
  /** Where proxies are named. Default: the process's own environment. */
  environment?: NodeJS.ProcessEnv;
  now?: () => number;
}

/** An image as CRI lists it (`runtime.v1.Image`). */
export interface ImageSummary {
  /** `sha256:` and the digest of its config. */
  id: string;
  repoTags: string[];
  repoDigests: string[];
  /** Bytes of index, manifest, config and layers as a registry holds them. */
  size: number;
  /** Numeric user of its config, or undefined when it names one or has none. */
  uid: number | undefined;
  /** User name of its config, when it is not a number. */
  username: string;
  pinned: boolean;
}

/** An image as a container needs it. */
export interface ResolvedImage extends ImageSummary {
  /** What the image says of the process to run: Env, Entrypoint, Cmd, WorkingDir, User, Volumes, StopSignal. */
  config: RunConfig;
  /** The whole config document. */
  document: ImageConfig;
  /** The config's User as it stands: `name`, `uid`, `user:group`; '' when it has none. */
  user: string;
  chainIds: readonly string[];
}

export interface ImageFsUsage {
  /** A directory on the file system; the same one for all that lies on one file system. */
  mountpoint: string;
  usedBytes: number;
  inodesUsed: number;
  timestampNs: bigint;
}

export interface ImportedImage {
  id: string;
  names: string[];
}

export interface Images {
  /** Run once at start, before requests: removes what a kill left behind. */
  recover(): Promise<RecoveryReport>;
  /** All images, or those that `reference` (a repository, a name, an id or the beginning of one) stands for. */
  list(reference?: string): ImageSummary[];
  /** @returns undefined when no image has this name, id or beginning of an id. @throws CriError ambiguousId */
  status(reference: string): ResolvedImage | undefined;
  /** As `status`. @throws CriError notFound, ambiguousId */
  resolve(reference: string): ResolvedImage;
  /** Removes an image with all its names; fine when there is none. What others use stays. */
  remove(reference: string): Promise<void>;
  /** What images take, true to `du` of content and layers; and what containers' writable layers take. */
  fsInfo(): Promise<{ images: ImageFsUsage; containers: ImageFsUsage }>;
  /**
   * Pulls an image (src/image/pull.ts) and returns its id. `auth` is CRI's AuthConfig.
   * @throws CriError as pullImage does
   */
  pull(reference: string, options?: PullOptions): Promise<string>;
  /** Imports the images of an archive or OCI layout (src/image/import.ts). `file` is absolute. */
  import(
    file: string,
    options?: {
      name?: string | undefined;
      signal?: AbortSignal | undefined;
      onProgress?: ((progress: LayerProgress) => void) | undefined;
    },
  ): Promise<ImportedImage[]>;
  /** Removes what no image and no container uses, leftovers of broken pulls of any age included. */
  prune(): Promise<{ blobs: number; layers: number; bytes: number }>;
  /**
   * Writes images as an OCI archive to `file`, an absolute path. An image named by a tag is found in it under
   * that tag, one named by id under all its tags.
   * @throws CriError notFound, imageFailed
   */
  export(
    references: readonly string[],
    file: string,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<void>;
  /** Annotations of the image's manifest. @throws CriError notFound */
  annotations(reference: string): Promise<Readonly<Record<string, string>>>;
  /** A small regular file of the image by its path without a leading slash; undefined when there is none. */
  readFile(reference: string, path: string): Promise<Buffer | undefined>;
  /** Small members of a tar archive, compressed or not, by name. @throws CriError invalidArgument, imageFailed */
  readArchive(
    file: string,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Buffer>>;
  /** Unpacks a tar archive, compressed or not, as a layer is; nothing leads out of `into`, which is made. */
  unpackArchive(file: string, into: string, signal: AbortSignal): Promise<void>;
  /** Writes an archive of files with mode 0600, itself of that mode. */
  packArchive(members: readonly ArchiveMember[], to: string, signal: AbortSignal): Promise<void>;
  /** Reads the whole store again; returns what is damaged (src/image/verify.ts). */
  verify(options?: {
    signal?: AbortSignal | undefined;
    onProgress?: ((progress: VerifyProgress) => void) | undefined;
  }): Promise<Damage[]>;
  readonly rootfs: RootFilesystems;
  /** Lets what is under way in the background end, and ends the worker processes. */
  close(): Promise<void>;
}

const annotatedSchema = z.object({
  annotations: z
    .record(z.string(), z.string())
    .nullish()
    .transform(a => a ?? {}),
});

const defaultConcurrency = 3;

/** Opens the image part on its directories and records. */
export async function openImages(options: ImagesOptions): Promise<Images> {
  const { root, state, log } = options;
  const now = options.now ?? Date.now;
  await makeDirectories(join(root, 'containers'), 0o711);
  const records = openRecords(options.store);
  const pool = createWorkerPool();
  const leases = createLeases();
  const content = await openContentStore(root);
  const layers = await openLayerStore({
    root,
    records: records.layers,
    content,
    pool,
    leases,
    concurrency: options.maxConcurrentDownloads ?? defaultConcurrency,
    flushed: options.store.flushed,
    now,
  });
  const durability = createDurability(records.unflushed, { directory: content.directory, pool, log });
  const platform = options.platform ?? hostPlatform();
  const pinned = new Set((options.pinned ?? []).map(reference => formatReference(parseReference(reference))));
  const { flushed } = options.store;
  const garbage = createGarbage({ records, content, layers, leases, pool, flushed, now });
  const rootfs = createRootFilesystems({
    root,
    state,
    records: records.rootfs,
    image: id => records.images.get(id),
    layers,
    leases,
    pool,
    host: options.host,
    released: async () => {
      await garbage.collectLayers();
    },
  });
  const transport = createTransport();
  const plans = imagePlans({
    records,
    content,
    layers,
    leases,
    durability,
    garbage,
    verifiers: options.verifiers,
    log,
  });
  const works = createWorks({ records, plans, engine: options.engine ?? createEngine(), garbage, log, now });

  const pulling: PullParts = {
    records,
    content,
    works,
    pool,
    platform,
    transport,
    proxy: proxyFromEnvironment(options.environment ?? process.env),
    configPaths: options.registry?.configPaths ?? [],
    headers: [...(options.registry?.headers ?? [])].flatMap(([name, values]) =>
      values.map(value => [name, value] as const),
    ),
    progressTimeoutMs: options.pullProgressTimeoutMs,
    running: createSharedTasks(),
  };

  const namesOf = (id: string) =>
    records.names
      .entries()
      .filter(([, name]) => name.image === id)
      .map(([name]) => name);

  function find(reference: string): ImageRecord | undefined {
    if (isDigest(reference)) return records.images.get(reference);
    const name = nameOf(reference);
    if (name !== undefined) return records.images.get(records.names.get(name)?.image ?? '');
    const hex = reference.startsWith('sha256:') ? reference.slice('sha256:'.length) : reference;
    if (!/^[a-f0-9]{1,64}$/.test(hex)) return undefined;
    const fitting = records.images.entries().filter(([id]) => id.startsWith(`sha256:${hex}`));
    if (fitting.length > 1) {
      throw new CriError(
        'ambiguousId',
        `image id ${reference} fits ${fitting.length} images: give more of its digits`,
      );
    }
    return fitting[0]?.[1];
  }

  /** The normalised spelling of what the store knows as a name. */
  function nameOf(reference: string): string | undefined {
    try {
      const name = formatReference(parseReference(reference));
      return records.names.get(name) && name;
    } catch (error) {
      // Not a reference at all: it may still be the beginning of an id.
      if (error instanceof CriError) return undefined;
      throw error;
    }
  }

  function summarise(image: ImageRecord): ImageSummary {
    const names = namesOf(image.id);
    const user = image.config.config?.User?.split(':')[0] ?? '';
    const numeric = /^[0-9]+$/.test(user);
    return {
      id: image.id,
      repoTags: names.filter(name => !name.includes('@')),
      repoDigests: names.filter(name => name.includes('@')),
      size: image.size,
      uid: numeric ? Number(user) : undefined,
      username: numeric ? '' : user,
      pinned: names.some(name => pinned.has(name)),
    };
  }

  function describe(image: ImageRecord): ResolvedImage {
    return {
      ...summarise(image),
      config: image.config.config ?? runConfigSchema.parse({}),
      document: image.config,
      user: image.config.config?.User ?? '',
      chainIds: image.chain,
    };
  }

  const status = (reference: string): ResolvedImage | undefined => {
    const image = find(reference);
    return image && describe(image);
  };

  const resolve = (reference: string): ResolvedImage => {
    const image = status(reference);
    if (image) return image;
    throw new CriError(
      'notFound',
      `image ${JSON.stringify(reference)} is not on this node: pull or import it first`,
    );
  };

  const recordOf = (id: string): ImageRecord => {
    const image = records.images.get(id);
    if (image) return image;
    throw new CriError('notFound', `image ${id} is not on this node: pull or import it first`);
  };

  return {
    async recover() {
      await works.finish().catch(() => {}); // it is in the log, and the next removal tries again
      const report = await recoverImages({ records, content, layers, durability, pool });
      await garbage.collectLayers();
      await garbage.collectBlobs(leftoversKeptMs, new Set());
      await garbage.collectTemporary();
      return report;
    },
    list(reference) {
      if (reference !== undefined && reference !== '') {
        const repository = bareRepository(reference);
        const named = records.names
          .entries()
          .filter(([name]) => repository !== undefined && repositoryOf(parseReference(name)) === repository);
        const ids = new Set([find(reference)?.id ?? '', ...named.map(([, { image }]) => image)]);
        return [...ids].flatMap(id => records.images.get(id) ?? []).map(summarise);
      }
      return records.images.entries().map(([, image]) => summarise(image));
    },
    status,
    resolve,
    async remove(reference) {
      const image = find(reference);
      // An image that is gone may have left something that could not be removed: whoever asks again means that.
      if (!image) return works.finish();
      await works.remove(reference, image);
      log.info({ image: image.id, reference }, 'image removed');
      await works.finish().catch(() => {}); // another image's, and in the log
    },
    async fsInfo() {
      const measure = async (path: string) => (await measureSmall(path)) ?? pool.run('measure', { path });
      const written = await readdir(join(root, 'containers'));
      const [inContent, inLayers, own, containers, ...writable] = await Promise.all([
        measure(content.directory),
        layers.usage(),
        // The layers' common directory itself, and the empty ones in it.
        directoryUsage([layers.directory, ...layers.empty]),
        directoryUsage([join(root, 'containers')]),
        ...written.map(id => measure(join(root, 'containers', id))),
      ]);
      const timestampNs = BigInt(now()) * 1_000_000n;
      // kubelet takes two mountpoints for two file systems, and evicts and collects for each by itself.
      const inContainers = join(root, 'containers');
      const [ofLayers, ofContainers] = await Promise.all([stat(layers.directory), stat(inContainers)]);
      const inImages = ofLayers.dev === ofContainers.dev ? inContainers : layers.directory;
      const total = (parts: DiskUsage[], mountpoint: string): ImageFsUsage => ({
        mountpoint,
        usedBytes: parts.reduce((sum, part) => sum + part.bytes, 0),
        inodesUsed: parts.reduce((sum, part) => sum + part.inodes, 0),
        timestampNs,
      });
      return {
        images: total([inContent, inLayers, own], inImages),
        containers: total([containers, ...writable], inContainers),
      };
    },
    async pull(reference, pullOptions = {}) {
      const began = now();
      const image = await pullImage(pulling, reference, pullOptions);
      log.info({ reference, image: image.id, bytes: image.size, ms: now() - began }, 'image pulled');
      return image.id;
    },
    async import(file, { name, signal, onProgress } = {}) {
      const imported = await importArchive({ content, works, pool, platform }, file, {
        name,
        onProgress,
        signal: signal ?? new AbortController().signal,
      });
      log.info({ file, images: imported.map(({ image }) => image.id) }, 'images imported');
      return imported.map(({ image, names }) => ({ id: image.id, names }));
    },
    async prune() {
      await works.finish();
      const removedLayers = await garbage.collectLayers();
      const { blobs, bytes } = await garbage.collectBlobs(0, new Set());
      return { blobs, layers: removedLayers, bytes };
    },
    async export(references, file, { signal } = {}) {
      const exported = references.map(reference => {
        const image = find(reference);
        if (!image) throw new CriError('notFound', `image ${JSON.stringify(reference)} is not on this node`);
        const name = nameOf(reference);
        const names = name !== undefined && !name.includes('@') ? [name] : summarise(image).repoTags;
        return { image, names };
      });
      await exportImages({ content, pool }, exported, file, signal ?? new AbortController().signal);
      log.info({ references, file }, 'images exported');
    },
    async annotations(reference) {
      const { manifest } = recordOf(resolve(reference).id);
      return annotatedSchema.parse(JSON.parse((await content.read(manifest.digest)).toString('utf8')))
        .annotations;
    },
    async readFile(reference, path) {
      const { chain } = recordOf(resolve(reference).id);
      for (const chainId of [...chain].reverse()) {
        const layer = layers.get(chainId);
        if (!layer) continue;
        const file = join(layers.path(layer.n), path);
        const found = await lstat(file).catch(() => undefined);
        if (found?.isFile() && found.size <= maxDocumentBytes) return readFile(file);
      }
      return undefined;
    },
    async readArchive(file, names, signal) {
      const archive = await openArchive(file, { pool, temporary: content.temporaryPath(), signal });
      try {
        const found = await Promise.all(names.map(async name => [name, await archive.read(name)] as const));
        return new Map(found.flatMap(([name, bytes]) => (bytes ? [[name, bytes]] : [])));
      } finally {
        await archive.close();
      }
    },
    async unpackArchive(file, into, signal) {
      const { size: length } = await stat(file);
      const source = { kind: 'file', path: file, offset: 0, length } as const;
      const unchecked = { digest: undefined, size: undefined, keep: undefined };
      const job = { source, ...unchecked, compression: 'sniff', unpackInto: into } as const;
      await pool.run('layer', job, { signal });
    },
    async packArchive(members, to, signal) {
      await pool.run('pack', { members: [...members], to, mode: 0o600 }, { signal });
    },
    async verify({ signal, onProgress } = {}) {
      const parts = { records, content, layers, pool };
      return verifyStore(parts, { signal: signal ?? new AbortController().signal, onProgress });
    },
    rootfs,
    async close() {
      transport.close();
      await durability.idle();
      await pool.close();
    },
  };
}

async function directoryUsage(paths: readonly string[]): Promise<DiskUsage> {
  const stats = await Promise.all(paths.map(path => stat(path)));
  return { bytes: stats.reduce((sum, { blocks }) => sum + blocks * 512, 0), inodes: stats.length };
}
