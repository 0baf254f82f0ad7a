// `image export`: writes images as an OCI archive, which skopeo, docker, containerd and `image import` read.
import { CriError } from '../errors.ts';
import type { ContentStore } from './content.ts';
import type { ArchiveMember } from './pack.ts';
import { formatPlatform } from './platform.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecord } from './records.ts';
import { parseReference } from './reference.ts';

export interface ExportedImage {
  image: ImageRecord;
  /** Names with a tag under which it is to be found in the archive. */
  names: readonly string[];
}

/**
 * Writes the archive to `file`, which appears when it is complete.
 * @throws CriError imageFailed when a layer's blob is not in the content store.
 */
export async function exportImages(
  { content, pool }: { content: ContentStore; pool: WorkerPool },
  images: readonly ExportedImage[],
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const blobs = new Map<string, ArchiveMember>();
  const manifests = images.flatMap(({ image, names }) => describe(image, names));
  const sizes = new Map((await content.list()).map(({ digest, size }) => [digest, size]));
  for (const { image } of images) {
    for (const digest of await blobsOf(content, image)) {
      const size = sizes.get(digest);
      if (size === undefined) {
        throw new CriError(
          'imageFailed',
          `image ${image.id} cannot be exported: its blob ${digest} is not in the content store (the layer came with another image): remove the image and pull it again`,
        );
      }
      blobs.set(digest, { name: `blobs/${digest.replace(':', '/')}`, path: content.path(digest), size });
    }
  }
  const members: ArchiveMember[] = [
    { name: 'oci-layout', text: JSON.stringify({ imageLayoutVersion: '1.0.0' }) },
    { name: 'index.json', text: JSON.stringify({ schemaVersion: 2, manifests }) },
    ...blobs.values(),
  ];
  await pool.run('pack', { members, to: file }, { signal });
}

/** The blobs that its manifest needs: an index it came by is left out, for its other platforms are not here. */
async function blobsOf(content: ContentStore, { manifest, id }: ImageRecord): Promise<string[]> {
  const bytes = await content.read(manifest.digest);
  const { layers } = JSON.parse(bytes.toString('utf8')) as { layers?: { digest: string }[] };
  return [manifest.digest, id, ...(layers ?? []).map(layer => layer.digest)];
}

function describe({ manifest, config }: ImageRecord, names: readonly string[]) {
  const { os, architecture, variant } = config;
  const platform =
    formatPlatform({ os, architecture }) === ''
      ? {}
      : { platform: { os, architecture, ...(variant ? { variant } : {}) } };
  const entry = { mediaType: manifest.mediaType, digest: manifest.digest, size: manifest.size, ...platform };
  if (names.length === 0) return [entry];
  return names.map(name => ({
    ...entry,
    annotations: {
      'io.containerd.image.name': name,
      'org.opencontainers.image.ref.name': parseReference(name).tag ?? name,
    },
  }));
}
