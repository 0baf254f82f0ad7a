// Makes images for tests and benchmarks: layers from lists of entries, manifests, OCI layouts. Independent of
// src/image: the tar writing is tar-stream's.
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';

export interface Entry {
  name: string;
  type?: 'file' | 'link' | 'symlink' | 'character-device' | 'block-device' | 'directory' | 'fifo';
  content?: string | Buffer;
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: Date;
  linkname?: string;
  devmajor?: number;
  devminor?: number;
  pax?: Record<string, string>;
}

export interface Blob {
  mediaType: string;
  digest: string;
  size: number;
  bytes: Buffer;
}

export interface Layer extends Blob {
  diffId: string;
}

export const digestOf = (bytes: Buffer | string): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** An uncompressed archive of `entries`. */
export async function makeTar(entries: readonly Entry[]): Promise<Buffer> {
  const pack = tar.pack();
  const collected = (async () => {
    const chunks: Buffer[] = [];
    for await (const chunk of pack) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  })();
  for (const { content, ...header } of entries) {
    const mtime = header.mtime ?? new Date(1_700_000_000_000);
    pack.entry(
      { ...header, mtime },
      typeof content === 'string' ? Buffer.from(content) : (content ?? Buffer.alloc(0)),
    );
  }
  pack.finalize();
  return collected;
}

const layerTypes = {
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
};

/** A layer of an archive. For zstd, `compress` must be given: Node 20 has none. */
export function layerOf(
  archive: Buffer,
  compression: keyof typeof layerTypes = 'gzip',
  compress: (bytes: Buffer) => Buffer = bytes =>
    compression === 'gzip' ? gzipSync(bytes, { level: 6 }) : bytes,
): Layer {
  const bytes = compress(archive);
  return { ...blobOf(bytes, layerTypes[compression]), diffId: digestOf(archive) };
}

export function blobOf(bytes: Buffer, mediaType: string): Blob {
  return { mediaType, digest: digestOf(bytes), size: bytes.length, bytes };
}

export const descriptor = ({ mediaType, digest, size }: Blob) => ({ mediaType, digest, size });

export interface Image {
  manifest: Blob;
  config: Blob;
  layers: Layer[];
}

export interface ImageSettings {
  config?: Record<string, unknown>;
  architecture?: string;
  variant?: string;
  docker?: boolean;
}

/** An image of these layers, the lowest first; for amd64 Linux unless told otherwise. */
export function makeImage(layers: Layer[], settings: ImageSettings = {}): Image {
  const { docker = false } = settings;
  const config = blobOf(
    Buffer.from(
      JSON.stringify({
        architecture: settings.architecture ?? 'amd64',
        ...(settings.variant === undefined ? {} : { variant: settings.variant }),
        os: 'linux',
        config: settings.config ?? { Cmd: ['/bin/sh'] },
        rootfs: { type: 'layers', diff_ids: layers.map(layer => layer.diffId) },
        history: layers.map((_, index) => ({ created_by: `layer ${index}` })),
      }),
    ),
    docker ? 'application/vnd.docker.container.image.v1+json' : 'application/vnd.oci.image.config.v1+json',
  );
  const mediaType = docker
    ? 'application/vnd.docker.distribution.manifest.v2+json'
    : 'application/vnd.oci.image.manifest.v1+json';
  const layerDescriptors = layers.map(layer => ({
    ...descriptor(layer),
    ...(docker ? { mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' } : {}),
  }));
  const manifest = blobOf(
    Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType, config: descriptor(config), layers: layerDescriptors }),
    ),
    mediaType,
  );
  return { manifest, config, layers };
}

export interface IndexEntry {
  blob: Blob;
  platform?: { os: string; architecture: string; variant?: string };
  annotations?: Record<string, string>;
}

/** An index over manifests or other indexes. */
export function makeIndex(entries: readonly IndexEntry[], docker = false): Blob {
  const mediaType = docker
    ? 'application/vnd.docker.distribution.manifest.list.v2+json'
    : 'application/vnd.oci.image.index.v1+json';
  const manifests = entries.map(({ blob, platform, annotations }) => ({
    ...descriptor(blob),
    ...(platform ? { platform } : {}),
    ...(annotations ? { annotations } : {}),
  }));
  return blobOf(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests })), mediaType);
}

/** Writes an OCI layout of `images`, each under a name in the index's ref.name annotation. */
export async function writeLayout(
  directory: string,
  images: readonly { image: Image; name?: string }[],
): Promise<void> {
  const blobs = join(directory, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  for (const { image } of images) {
    for (const blob of [image.manifest, image.config, ...image.layers]) {
      await writeFile(join(blobs, blob.digest.slice(7)), blob.bytes);
    }
  }
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const index = makeIndex(
    images.map(({ image, name }) => ({
      blob: image.manifest,
      ...(name === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': name } }),
    })),
  );
  await writeFile(join(directory, 'index.json'), index.bytes);
}

/** Numbers that look random and are the same in every run (xorshift32). */
export function createRandom(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Files of varied sizes, `bytes` in all, that compress to about 40 %, as programs and texts do. */
export function filesLike(directory: string, bytes: number, seed: number): Entry[] {
  const random = createRandom(seed);
  const pool = Buffer.alloc(4 * 1024 * 1024);
  for (let at = 0; at < pool.length; at += 4) {
    // Half of the words repeat a small vocabulary, half are noise.
    pool.writeUInt32LE(
      random() < 0.82 ? Math.floor(random() * 200) * 2_654_435 : Math.floor(random() * 2 ** 32),
      at,
    );
  }
  const entries: Entry[] = [{ name: `${directory}/`, type: 'directory', mode: 0o755 }];
  for (let left = bytes, i = 0; left > 0; i++) {
    const size = Math.min(left, Math.floor(2 ** (12 + random() * 9)));
    const start = Math.floor(random() * (pool.length - size));
    if (i % 40 === 0) entries.push({ name: `${directory}/d${i / 40}/`, type: 'directory', mode: 0o755 });
    entries.push({
      name: `${directory}/d${Math.floor(i / 40)}/file-${i}`,
      content: pool.subarray(start, start + size),
      mode: i % 7 === 0 ? 0o755 : 0o644,
    });
    left -= size;
  }
  return entries;
}
