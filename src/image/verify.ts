// `image verify`: reads the whole store again and names what is not as it was stored: blobs by their digest,
// unpacked layers against the archive they came from.

import { messageOf } from '../errors.ts';
import type { ContentStore } from './content.ts';
import type { LayerStore } from './layers.ts';
import { layerCompression } from './media-types.ts';
import { manifestSchema, parseDocument } from './oci.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecords } from './records.ts';

export interface Damage {
  kind: 'blob' | 'layer';
  /** Digest of the blob, or chainID of the layer. */
  name: string;
  reason: string;
  /** Ids of the images that use it. */
  images: string[];
}

export interface VerifyProgress {
  checked: number;
  total: number;
  damage?: Damage;
}

/** Checks everything; reports after each object. What it returns is empty when all is well. */
export async function verifyStore(
  parts: { records: ImageRecords; content: ContentStore; layers: LayerStore; pool: WorkerPool },
  {
    signal,
    onProgress,
  }: { signal: AbortSignal; onProgress?: ((progress: VerifyProgress) => void) | undefined },
): Promise<Damage[]> {
  const { records, content } = parts;
  const images = records.images.entries().map(([, image]) => image);
  const expected = new Set(images.flatMap(image => image.blobs));
  const present = new Set((await content.list()).map(({ digest }) => digest));
  const blobs = [...new Set([...present, ...expected])];
  const layers = records.layers.entries();
  const found: Damage[] = [];
  let checked = 0;
  const report = (damage: Damage | undefined) => {
    checked++;
    if (damage) found.push(damage);
    onProgress?.({ checked, total: blobs.length + layers.length, ...(damage ? { damage } : {}) });
  };
  for (const name of blobs) {
    const reason = present.has(name) ? await checkBlob(parts, name, signal) : 'it is missing';
    const users = images.filter(image => image.blobs.includes(name)).map(({ id }) => id);
    report(reason === undefined ? undefined : { kind: 'blob', name, reason, images: users });
  }
  const sources = await layerBlobs(parts);
  for (const [chainId, layer] of layers) {
    signal.throwIfAborted();
    const source = sources.get(chainId);
    // Without its blob, or with a damaged one, a layer cannot be compared; the blob is reported.
    const usable = source && content.has(source.digest) && !found.some(({ name }) => name === source.digest);
    const reason = usable ? await checkLayer(parts, layer.n, source, signal) : undefined;
    const users = images.filter(image => image.chain.includes(chainId)).map(({ id }) => id);
    report(reason === undefined ? undefined : { kind: 'layer', name: chainId, reason, images: users });
  }
  return found;
}

interface LayerBlob {
  digest: string;
  size: number;
  mediaType: string;
}

async function checkBlob(
  { content, pool }: { content: ContentStore; pool: WorkerPool },
  digest: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const found = await pool.run('hash', { path: content.path(digest) }, { signal });
    return found.digest === digest ? undefined : `its content hashes to ${found.digest}`;
  } catch (error) {
    signal.throwIfAborted();
    return `it cannot be read: ${messageOf(error)}`;
  }
}

async function checkLayer(
  { content, layers, pool }: { content: ContentStore; layers: LayerStore; pool: WorkerPool },
  n: number,
  { digest, size, mediaType }: LayerBlob,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { difference } = await pool.run(
    'compare',
    {
      archive: content.path(digest),
      size,
      compression: layerCompression(mediaType) ?? 'none',
      directory: layers.path(n),
    },
    { signal },
  );
  return difference === null
    ? undefined
    : `its directory ${layers.path(n)} differs from its archive: ${difference}`;
}

/** By chainID, the blob that the layer was unpacked from, as far as an image's manifest tells. */
async function layerBlobs({
  records,
  content,
}: {
  records: ImageRecords;
  content: ContentStore;
}): Promise<Map<string, LayerBlob>> {
  const blobs = new Map<string, LayerBlob>();
  for (const [, image] of records.images.entries()) {
    const bytes = await content.read(image.manifest.digest).catch(() => undefined);
    if (!bytes) continue; // damaged or missing: reported as a blob
    const manifest = parseDocument(bytes, manifestSchema, `manifest ${image.manifest.digest}`);
    for (const [index, chainId] of image.chain.entries()) {
      const layer = manifest.layers[index];
      if (layer) blobs.set(chainId, layer);
    }
  }
  return blobs;
}
