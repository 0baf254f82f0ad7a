// What `cri-ts image` works on. A running daemon owns the store and is asked over its socket, so that what it
// knows stays true; without one, the command takes the daemon's lock and opens the store itself.
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { z } from 'zod';
import type { Config } from '../config/index.ts';
import { loadContract } from '../cri-api/contract.ts';
import {
  type ImageEventMessage,
  loadOperatorContract,
  type VerifyEventMessage,
} from '../cri-api/operator.ts';
import type { Image, ImageStatusResponse, ListImagesResponse, StatusResponse } from '../cri-api/types.ts';
import { lockForLife } from '../host/lock.ts';
import { type ImageSummary, openImages } from '../image/images.ts';
import type { LayerProgress } from '../image/layers.ts';
import { createLogger } from '../log.ts';
import { openStore } from '../store/store.ts';

type OnProgress = (progress: LayerProgress) => void;
type Named = { id: string; names: string[] };

export interface ImageStore {
  list(): Promise<Omit<ImageSummary, 'uid'>[]>;
  /** @throws when there is no such image */
  inspect(image: string): Promise<unknown>;
  pull(
    image: string,
    auth: { username: string; password: string } | undefined,
    onProgress: OnProgress,
  ): Promise<Named>;
  remove(image: string): Promise<void>;
  import(file: string, name: string | undefined, onProgress: OnProgress): Promise<Named[]>;
  export(images: readonly string[], file: string): Promise<void>;
  prune(): Promise<{ blobs: number; layers: number; bytes: number }>;
  verify(): Promise<{ kind: string; name: string; reason: string; images: string[] }[]>;
  close(): Promise<void>;
}

/**
 * `insistsOnRoot`: a daemon that answers on the socket and serves another root is not the one that is meant.
 * @throws when neither a daemon answers nor its lock is free
 */
export async function openImageStore(
  config: Config,
  { insistsOnRoot }: { insistsOnRoot: boolean },
): Promise<ImageStore> {
  const remote = connectDaemon(config.server.socketPath);
  const served = await remote.root();
  const isOther = served.root !== undefined && resolve(served.root) !== resolve(config.root);
  if (served.answers && !(insistsOnRoot && isOther)) return remote.store;
  await remote.store.close();
  mkdirSync(config.root, { recursive: true, mode: 0o711 });
  const lock = await lockForLife(join(config.root, 'lock'));
  if (!lock) {
    const answers = served.answers ? `; the one on ${config.server.socketPath} serves ${served.root}` : '';
    throw new Error(
      `a daemon holds ${config.root} and does not answer on ${config.server.socketPath}${answers}: name its socket with --address`,
    );
  }
  return openDirectly(config, () => lock.release());
}

async function openDirectly(config: Config, release: () => void): Promise<ImageStore> {
  const log = createLogger('warn');
  const store = openStore(join(config.root, 'store'), damaged =>
    log.error(damaged, 'a record cannot be read'),
  );
  const images = await openImages({
    root: config.root,
    state: config.state,
    store,
    log,
    host: {
      mountOverlay: () => Promise.reject(new Error('only the daemon mounts')),
      settled: () => Promise.resolve(),
    },
    pinned: [...config.images.pinned.values()],
    maxConcurrentDownloads: config.images.maxConcurrentDownloads,
    registry: config.images.registry,
    pullProgressTimeoutMs: config.images.pullProgressTimeoutMs,
    verifiers: config.images.verifiers,
  });
  await images.recover();
  return {
    list: async () => images.list(),
    inspect: async image => {
      const { document, ...rest } = images.resolve(image);
      return { ...rest, document };
    },
    async pull(image, auth, onProgress) {
      const id = await images.pull(image, { auth, onProgress });
      const { repoTags, repoDigests } = images.resolve(id);
      return { id, names: [...repoTags, ...repoDigests] };
    },
    remove: image => images.remove(image),
    import: (file, name, onProgress) => images.import(file, { name, onProgress }),
    export: (references, file) => images.export(references, file),
    prune: () => images.prune(),
    verify: () => images.verify(),
    async close() {
      await images.close();
      await store.close();
      release();
    },
  };
}

type Callback<T> = (error: ServiceError | null, response: T) => void;

interface Served {
  answers: boolean;
  /** undefined when it does not say, as others than cri-ts. */
  root?: string | undefined;
}

const shownConfigSchema = z.object({ root: z.string() });

function connectDaemon(socketPath: string): { store: ImageStore; root(): Promise<Served> } {
  const { ImageService, RuntimeService } = loadContract();
  const { Images } = loadOperatorContract();
  const options = { 'grpc.max_receive_message_length': 64 << 20 };
  const cri = new ImageService(`unix:${socketPath}`, credentials.createInsecure(), options);
  const runtime = new RuntimeService(`unix:${socketPath}`, credentials.createInsecure(), options);
  const own = new Images(`unix:${socketPath}`, credentials.createInsecure(), options);

  function unary<T>(client: Client, method: string, request: object): Promise<T> {
    const call = Reflect.get(client, method) as (request: object, callback: Callback<T>) => void;
    return new Promise((resolve, reject) => {
      call.call(client, request, (error, response) => (error ? reject(readable(error)) : resolve(response)));
    });
  }

  async function* stream<T>(method: string, request: object): AsyncGenerator<T> {
    const call = Reflect.get(own, method) as (request: object) => AsyncIterable<T>;
    try {
      yield* call.call(own, request);
    } catch (error) {
      throw isServiceError(error) ? readable(error) : error;
    }
  }

  async function imagesOf(
    method: 'Pull' | 'Import',
    request: object,
    onProgress: OnProgress,
  ): Promise<Named[]> {
    const images: Named[] = [];
    for await (const { layer, image } of stream<ImageEventMessage>(method, request)) {
      if (layer) onProgress({ ...layer, phase: layer.phase as LayerProgress['phase'] });
      if (image) images.push(image);
    }
    return images;
  }

  const store: ImageStore = {
    async list() {
      const { images } = await unary<ListImagesResponse>(cri, 'ListImages', {});
      return images.map(summary);
    },
    async inspect(image) {
      const found = await unary<ImageStatusResponse>(cri, 'ImageStatus', { image: { image }, verbose: true });
      if (!found.image) throw new Error(`image ${JSON.stringify(image)} is not on this node`);
      const info: unknown = JSON.parse(found.info.info ?? '{}');
      const document = typeof info === 'object' && info !== null ? Reflect.get(info, 'imageSpec') : undefined;
      return { ...summary(found.image), document };
    },
    async pull(image, auth, onProgress) {
      const [pulled] = await imagesOf('Pull', { image, ...auth }, onProgress);
      if (!pulled) throw new Error(`the daemon did not say what it pulled for ${image}`);
      return pulled;
    },
    async remove(image) {
      await unary(cri, 'RemoveImage', { image: { image } });
    },
    import: (file, name, onProgress) => imagesOf('Import', { file, name: name ?? '' }, onProgress),
    async export(images, file) {
      await unary(own, 'Export', { images, file });
    },
    prune: () => unary(own, 'Prune', {}),
    async verify() {
      const damage = [];
      for await (const event of stream<VerifyEventMessage>('Verify', {}))
        if (event.damage) damage.push(event.damage);
      return damage;
    },
    async close() {
      cri.close();
      runtime.close();
      own.close();
    },
  };
  return {
    store,
    root: () =>
      new Promise(resolve => {
        const call = Reflect.get(runtime, 'Status') as (
          request: object,
          callback: Callback<StatusResponse>,
        ) => void;
        call.call(runtime, { verbose: true }, (error, response) => {
          const answers = error?.code !== status.UNAVAILABLE;
          resolve({ answers, root: error ? undefined : shownRoot(response.info.config) });
        });
      }),
  };
}

function shownRoot(config: string | undefined): string | undefined {
  return shownConfigSchema.safeParse(JSON.parse(config ?? '{}')).data?.root;
}

function isServiceError(error: unknown): error is ServiceError {
  return typeof error === 'object' && error !== null && 'details' in error;
}

/** The daemon's own sentence, without gRPC's numbers around it. */
function readable(error: ServiceError): Error {
  return new Error(error.details || error.message, { cause: error });
}

function summary({ id, repoTags, repoDigests, size, username, pinned }: Image): Omit<ImageSummary, 'uid'> {
  return { id, repoTags, repoDigests, size: Number(size), username, pinned };
}
