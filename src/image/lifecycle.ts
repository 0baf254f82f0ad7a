// The life of an image, as steps. PullImage does them all, an import the last two; RemoveImage undoes them, and so does
// a pull or an import that fails or was killed. Each do stands beside its undo.
//
//     resolve -> documents and layers -> listed
import type { Logger } from '../log.ts';
import type { Plan, Step, Subject } from '../steps/step.ts';
import type { ContentStore } from './content.ts';
import { type Garbage, leftoversKeptMs } from './garbage.ts';
import type { LayerProgress, LayerStore } from './layers.ts';
import type { Leases } from './leases.ts';
import { chainIds, type Descriptor, sha256 } from './oci.ts';
import type { ImageRecord, ImageRecords, ImageWorkRecord } from './records.ts';
import { type VerifierOptions, verifyImage } from './verifiers.ts';
import type { WantedImage } from './wanted.ts';

/** One image on its way onto the node, or off it. Its fields are the record; `save` makes them durable. */
export type ImageWork = ImageWorkRecord &
  Subject & {
    /** Ends the record: what was made belongs to the image from now on. */
    forget(): Promise<void>;
    /** Asks the registry what is to be pulled, and under which descriptor the verifiers may judge it. */
    resolve(signal: AbortSignal): Promise<{ image: WantedImage; judged: Descriptor }>;
    /** What is brought onto the node, once it is known. */
    wanted: WantedImage | undefined;
    /** The image's record, once it is listed. */
    listed: ImageRecord | undefined;
    /** Resolves when the store knows that image data is on its way to the disk. */
    writing: Promise<unknown> | undefined;
    onProgress: ((progress: LayerProgress) => void) | undefined;
    /** Lets go of what garbage collection must not touch meanwhile. Harmless when repeated. */
    letGo(): void;
  };

/** What the steps act with. */
export interface ImageHost {
  records: ImageRecords;
  content: ContentStore;
  layers: LayerStore;
  leases: Leases;
  durability: { begin(sinceMs: number): Promise<() => void> };
  garbage: Garbage;
  verifiers: VerifierOptions | undefined;
  log: Logger;
}

export interface ImagePlans {
  pull: Plan<ImageWork>;
  import: Plan<ImageWork>;
}

/** However long a pull takes: what makes no progress is given up by the transfers themselves. */
const noDeadline = 2 ** 31 - 1;

export function imagePlans(host: ImageHost): ImagePlans {
  const { records, content, layers, garbage } = host;

  function beginWriting(work: ImageWork): void {
    const begun = host.durability.begin(work.createdAtMs);
    begun.catch(() => {}); // whoever waits for `writing` is told
    work.writing = begun;
    work.letGo = () => {
      work.letGo = () => {};
      begun.then(
        end => end(),
        () => {},
      );
    };
  }

  const resolve: Step<ImageWork> = {
    name: 'resolve (registry, image verifiers)',
    inMemory: true,
    deadlineMs: noDeadline,
    async do(work, signal) {
      const { image, judged } = await work.resolve(signal);
      if (host.verifiers) await verifyImage(host.verifiers, work.id, judged, { signal, log: host.log });
      intend(work, image, records);
      beginWriting(work); // now, so that the store commits it together with the intent
    },
  };

  const parts: Step<ImageWork> = {
    name: 'documents and layers',
    deadlineMs: noDeadline,
    async do(work, signal) {
      const image = wantedOf(work);
      if (!work.writing) beginWriting(work);
      const release = host.leases.hold([
        ...digestsOf(image),
        ...chainIds(image.layers.map(({ diffId }) => diffId)),
      ]);
      const written = work.letGo;
      work.letGo = () => {
        work.letGo = release;
        written();
        release();
      };
      await work.writing;
      const results = await Promise.allSettled([
        ...image.documents.map(bytes => content.put(bytes)),
        layers.ensure(image.layers, { signal, onProgress: work.onProgress }),
      ]);
      for (const result of results) if (result.status === 'rejected') throw result.reason;
    },
    async undo(work) {
      work.letGo();
      await garbage.collectLayers();
      await garbage.collectBlobs(leftoversKeptMs, new Set(work.blobs));
    },
  };

  const listed: Step<ImageWork> = {
    name: 'listed',
    async do(work) {
      const image = wantedOf(work);
      const kept = recordOf(image, work.createdAtMs, host);
      // Names first: one without its image is swept, an image without its name would stay. The intent last: it says what
      // to undo. The store commits in the order in which it was told, so that there is no need to wait in between.
      await Promise.all([
        ...image.names.map(({ name, target }) =>
          records.names.put(name, { image: kept.id, target, by: work.key }),
        ),
        records.images.put(kept.id, kept),
        work.forget(),
      ]);
      work.listed = kept;
    },
    // A pull puts back what its names stood for; a removal leaves them to nobody.
    async undo({ image, names, createdAtMs }) {
      for (const { name, by, before } of names) {
        if (records.names.get(name)?.by !== by) continue; // it was not come to, or another gave it meanwhile
        if (before && records.images.get(before.image)) await records.names.put(name, before);
        else await records.names.remove(name);
      }
      const isNamed = records.names.entries().some(([, name]) => name.image === image);
      if (!isNamed && records.images.get(image)?.createdAtMs === createdAtMs)
        await records.images.remove(image);
    },
  };

  return { pull: [resolve, parts, listed], import: [parts, listed] };
}

/** Puts what is to come into the work's record, so that a killed daemon's successor knows what to undo. */
export function intend(work: ImageWork, image: WantedImage, { names }: ImageRecords): void {
  work.wanted = image;
  work.image = image.configDigest;
  work.names = image.names.map(({ name }) => ({ name, by: work.key, before: names.get(name) ?? null }));
}

function wantedOf({ id, wanted }: ImageWork): WantedImage {
  if (!wanted) throw new Error(`${id} is to be brought onto the node before it is known`);
  return wanted;
}

function digestsOf({ manifest, configDigest, documents, layers }: WantedImage): string[] {
  const named = [manifest.digest, configDigest, ...layers.map(({ digest }) => digest)];
  return [...new Set([...documents.map(sha256), ...named])];
}

function recordOf(image: WantedImage, createdAtMs: number, { records, content }: ImageHost): ImageRecord {
  const before = records.images.get(image.configDigest);
  // A layer that was unpacked already need not have its blob here.
  const held = digestsOf(image).filter(digest => content.has(digest));
  const { digest, mediaType, size } = image.manifest;
  return {
    id: image.configDigest,
    manifest: { digest, mediaType, size },
    blobs: [...new Set([...(before?.blobs ?? []), ...held])],
    chain: chainIds(image.layers.map(({ diffId }) => diffId)),
    size: sizeOf(image),
    config: image.config,
    createdAtMs: before?.createdAtMs ?? createdAtMs,
  };
}

/** Bytes of index, manifest, config and layers as a registry holds them, as containerd counts. */
function sizeOf({ documents, layers }: WantedImage): number {
  const sizes = new Map(documents.map(bytes => [sha256(bytes), bytes.length]));
  return [...sizes.values(), ...layers.map(({ size }) => size)].reduce((a, b) => a + b, 0);
}
