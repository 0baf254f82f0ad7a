// `image import`: images out of OCI layouts, OCI archives and docker archives (`docker save`), several in one
// archive too. Each becomes an image exactly as if it had been pulled.

import { createReadStream } from 'node:fs';
import { z } from 'zod';
import { CriError } from '../errors.ts';
import { type Archive, type Member, openArchive } from './archive.ts';
import type { ContentStore } from './content.ts';
import { sniffCompression } from './decompress.ts';
import type { LayerProgress, WantedLayer } from './layers.ts';
import { layerCompression, mediaTypes } from './media-types.ts';
import {
  type Descriptor,
  descriptorSchema,
  type ImageConfig,
  imageConfigSchema,
  indexSchema,
  type Manifest,
  manifestSchema,
  type Platform,
  parseDocument,
  sha256,
} from './oci.ts';
import { choosePlatform, formatPlatform, platformFit, platformOf } from './platform.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecord } from './records.ts';
import { formatReference, parseReference, type Reference, repositoryOf } from './reference.ts';
import { pairLayers, type WantedImage } from './wanted.ts';
import type { Works } from './works.ts';

export interface ImportParts {
  content: ContentStore;
  works: Works;
  pool: WorkerPool;
  platform: Platform;
}

export interface ImportOptions {
  /** Name of the image instead of what the archive says; with several, the repository of their tags. */
  name?: string | undefined;
  signal: AbortSignal;
  onProgress?: ((progress: LayerProgress) => void) | undefined;
}

const maxIndexDepth = 4;

const dockerManifestSchema = z.array(
  z.object({
    Config: z.string(),
    RepoTags: z.array(z.string()).nullish(),
    Layers: z.array(z.string()).nullish(),
  }),
);

/**
 * Imports every image of the archive at `path` that fits this platform.
 * @returns their records and the names that they got.
 * @throws CriError invalidArgument: no such file, or a bad name; imageFailed: not an archive of images, damaged.
 */
export async function importArchive(
  parts: ImportParts,
  path: string,
  options: ImportOptions,
): Promise<{ image: ImageRecord; names: string[] }[]> {
  const archive = await openArchive(path, {
    pool: parts.pool,
    temporary: parts.content.temporaryPath(),
    signal: options.signal,
  });
  try {
    const images = await readImages(parts, archive, path, options);
    const imported: { image: ImageRecord; names: string[] }[] = [];
    for (const image of images) {
      const names = image.names.map(({ name }) => name);
      const record = await parts.works.import(names[0] ?? image.configDigest, image, options);
      imported.push({ image: record, names });
    }
    return imported;
  } finally {
    await archive.close();
  }
}

async function readImages(
  parts: ImportParts,
  archive: Archive,
  path: string,
  { name, signal }: ImportOptions,
): Promise<WantedImage[]> {
  const index = await archive.read('index.json');
  if (index) return readOciLayout(archive, index, path, parts.platform, name);
  const manifest = await archive.read('manifest.json');
  const hash = async ({ path, ...within }: Member) =>
    (await parts.pool.run('hash', { path, within }, { signal })).digest;
  if (manifest) return readDockerArchive({ archive, path, hash }, manifest, parts.platform, name);
  throw new CriError(
    'imageFailed',
    `${path} holds no images: neither index.json (OCI) nor manifest.json (docker save) is in it`,
  );
}

async function readOciLayout(
  archive: Archive,
  indexBytes: Buffer,
  path: string,
  platform: Platform,
  name: string | undefined,
): Promise<WantedImage[]> {
  const { manifests } = parseDocument(indexBytes, indexSchema, `index.json of ${path}`);
  const several = manifests.length > 1;
  const read: ReadImage[] = [];
  for (const entry of manifests) {
    const names = namesFor(entry, name, several).map(given => ({ name: given, target: entry.digest }));
    const documents: Buffer[] = [];
    const manifest = await findManifest(archive, entry, platform, documents, 0);
    if (manifest) read.push(await readOciImage(archive, manifest, documents, names));
  }
  return mergeNames(await choose(read, platform, path));
}

/** An image whose platform is known, and whose layers are looked for when it is the one that is wanted. */
interface ReadImage {
  platform: Platform | undefined;
  name: string | undefined;
  finish(): Promise<WantedImage>;
}

/**
 * The images that run here; of those that share a name, as in an index with one for each platform, the one that fits best.
 * @throws CriError imageFailed when there is none.
 */
async function choose(read: readonly ReadImage[], wanted: Platform, path: string): Promise<WantedImage[]> {
  const fitOf = ({ platform }: ReadImage) => (platform ? platformFit(platform, wanted) : 1);
  const chosen = read.filter(image => {
    const rivals = read.filter(other => image.name !== undefined && other.name === image.name);
    return fitOf(image) > 0 && rivals.every(rival => fitOf(rival) <= fitOf(image));
  });
  if (chosen.length > 0) return Promise.all(chosen.map(image => image.finish()));
  const offered = read.flatMap(({ platform }) => (platform ? [formatPlatform(platform)] : [])).join(', ');
  throw new CriError(
    'imageFailed',
    `${path} holds no image for ${formatPlatform(wanted)}${offered === '' ? '' : `, only for ${offered}`}`,
  );
}

/** One image under two names is two entries of the index. */
function mergeNames(images: readonly WantedImage[]): WantedImage[] {
  const byManifest = new Map<string, WantedImage>();
  for (const image of images) {
    const same = byManifest.get(image.manifest.digest);
    byManifest.set(
      image.manifest.digest,
      same
        ? {
            ...same,
            names: [...same.names, ...image.names],
            documents: [...same.documents, ...image.documents],
          }
        : image,
    );
  }
  return [...byManifest.values()];
}

function namesFor(entry: Descriptor, given: string | undefined, several: boolean): string[] {
  const full = entry.annotations?.['io.containerd.image.name'];
  const short = entry.annotations?.['org.opencontainers.image.ref.name'];
  if (given !== undefined) {
    const reference = parseReference(given);
    const tagOf = (text: string) => text.slice(text.lastIndexOf(':') + 1);
    const tagged =
      several && short !== undefined ? { ...reference, tag: tagOf(short), digest: undefined } : reference;
    return [...new Set([formatReference(tagged), `${repositoryOf(reference)}@${entry.digest}`])];
  }
  const found = full ?? short;
  if (found === undefined) return [];
  const reference = parseReference(found);
  return [formatReference(reference), `${repositoryOf(reference)}@${entry.digest}`];
}

/** Follows nested indexes to the manifest for this platform; gathers the documents on the way. */
async function findManifest(
  archive: Archive,
  entry: Descriptor,
  platform: Platform,
  documents: Buffer[],
  depth: number,
): Promise<{ descriptor: Descriptor; bytes: Buffer } | undefined> {
  if (depth > maxIndexDepth) throw new CriError('imageFailed', `index ${entry.digest} is nested too deeply`);
  const bytes = await readBlob(archive, entry);
  const value = parseDocument(
    bytes,
    z.looseObject({ mediaType: z.string().optional() }),
    `manifest ${entry.digest}`,
  );
  const isIndex = 'manifests' in value;
  if (!isIndex) return { descriptor: entry, bytes };
  documents.push(bytes);
  const { manifests } = parseDocument(bytes, indexSchema, `index ${entry.digest}`);
  for (const candidate of choosePlatform(manifests, platform)) {
    // An archive may hold one platform of an index that lists many.
    if (!(await archive.locate(blobName(candidate.digest)))) continue;
    const found = await findManifest(archive, candidate, platform, documents, depth + 1);
    if (found) return found;
  }
  return undefined;
}

const blobName = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

async function readBlob(archive: Archive, { digest }: Pick<Descriptor, 'digest'>): Promise<Buffer> {
  const bytes = await archive.read(blobName(digest));
  if (!bytes) throw new CriError('imageFailed', `the archive does not hold blob ${digest}`);
  const found = sha256(bytes);
  if (found !== digest) {
    throw new CriError(
      'imageFailed',
      `blob ${digest} of the archive has the digest ${found}: the archive is damaged`,
    );
  }
  return bytes;
}

async function readOciImage(
  archive: Archive,
  { descriptor, bytes }: { descriptor: Descriptor; bytes: Buffer },
  documents: Buffer[],
  names: WantedImage['names'],
): Promise<ReadImage> {
  const manifest = parseDocument(bytes, manifestSchema, `manifest ${descriptor.digest}`);
  const configBytes = await readBlob(archive, manifest.config);
  const config = parseConfig(manifest.config, configBytes);
  const mediaType = descriptor.mediaType || manifest.mediaType || mediaTypes.ociManifest;
  return {
    platform: descriptor.platform ?? platformOf(config),
    name: names[0]?.name,
    finish: async () => ({
      manifest: { ...descriptor, mediaType },
      configDigest: manifest.config.digest,
      config,
      documents: [...documents, bytes, configBytes],
      layers: pairLayers(
        await ociLayers(archive, descriptor.digest, manifest),
        config,
        names[0]?.name ?? descriptor.digest,
      ),
      names,
    }),
  };
}

async function ociLayers(
  archive: Archive,
  digest: string,
  manifest: Manifest,
): Promise<Omit<WantedLayer, 'diffId'>[]> {
  const layers: Omit<WantedLayer, 'diffId'>[] = [];
  for (const layer of manifest.layers) {
    const compression = layerCompression(layer.mediaType);
    if (compression === undefined) {
      throw new CriError('imageFailed', `manifest ${digest} is not an image: it holds ${layer.mediaType}`);
    }
    const member = await archive.locate(blobName(layer.digest));
    if (!member) throw new CriError('imageFailed', `the archive does not hold layer ${layer.digest}`);
    layers.push({ digest: layer.digest, size: layer.size, compression, source: { kind: 'file', ...member } });
  }
  return layers;
}

/** Reads an image's config; an artifact has something else in its place. */
export function parseConfig(descriptor: Descriptor, bytes: Buffer): ImageConfig {
  const known: readonly string[] = [mediaTypes.ociConfig, mediaTypes.dockerConfig, ''];
  if (!known.includes(descriptor.mediaType)) {
    throw new CriError(
      'imageFailed',
      `it is an artifact (config of type ${descriptor.mediaType}), not a container image`,
    );
  }
  return parseDocument(bytes, imageConfigSchema, `image config ${descriptor.digest}`);
}

interface DockerArchive {
  archive: Archive;
  path: string;
  /** The digest of a member's bytes. */
  hash(member: Member): Promise<string>;
}

/** A docker archive has no manifest of the registry's kind; one is made from what it holds. */
async function readDockerArchive(
  docker: DockerArchive,
  manifestBytes: Buffer,
  platform: Platform,
  name: string | undefined,
): Promise<WantedImage[]> {
  const { archive, path } = docker;
  const entries = parseDocument(manifestBytes, dockerManifestSchema, `manifest.json of ${path}`);
  if (entries.length === 0)
    throw new CriError('imageFailed', `${path} holds no images: its manifest.json is empty`);
  const read: ReadImage[] = [];
  for (const entry of entries) {
    const configBytes = await archive.read(entry.Config);
    if (!configBytes) throw new CriError('imageFailed', `${path} does not hold the config ${entry.Config}`);
    const config = parseDocument(configBytes, imageConfigSchema, `${entry.Config} of ${path}`);
    const references = (name !== undefined ? [name] : (entry.RepoTags ?? [])).map(parseReference);
    read.push({
      platform: platformOf(config),
      name: references[0] && formatReference(references[0]),
      finish: () => dockerImage(docker, entry.Layers ?? [], config, configBytes, references),
    });
  }
  return choose(read, platform, path);
}

async function dockerImage(
  { archive, path, hash }: DockerArchive,
  layerNames: readonly string[],
  config: ImageConfig,
  configBytes: Buffer,
  references: readonly Reference[],
): Promise<WantedImage> {
  const configDigest = sha256(configBytes);
  const layers: Omit<WantedLayer, 'diffId'>[] = [];
  for (const [index, layerName] of layerNames.entries()) {
    const member = await archive.locate(layerName);
    if (!member) throw new CriError('imageFailed', `${path} does not hold the layer ${layerName}`);
    const compression = await compressionOf(member);
    // docker save compresses nothing, and uncompressed a layer's digest is its diffID, which is checked as it is read;
    // crane, jib and Bazel keep layers as registries have them.
    const digest = compression === 'none' ? (config.rootfs.diff_ids[index] ?? '') : await hash(member);
    layers.push({ digest, size: member.length, compression, source: { kind: 'file', ...member } });
  }
  const paired = pairLayers(layers, config, references[0] ? formatReference(references[0]) : configDigest);
  const manifest = dockerManifest(configDigest, configBytes.length, paired);
  const digest = sha256(manifest);
  return {
    manifest: descriptorSchema.parse({
      mediaType: mediaTypes.dockerManifest,
      digest,
      size: manifest.length,
    }),
    configDigest,
    config,
    documents: [manifest, configBytes],
    layers: paired,
    names: references.flatMap(reference =>
      [formatReference(reference), `${repositoryOf(reference)}@${digest}`].map(each => ({
        name: each,
        target: digest,
      })),
    ),
  };
}

function dockerManifest(
  configDigest: string,
  configSize: number,
  layers: readonly Omit<WantedLayer, 'diffId'>[],
): Buffer {
  const suffixes = { none: '', gzip: '.gzip', zstd: '.zstd' };
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest,
      config: { mediaType: mediaTypes.dockerConfig, size: configSize, digest: configDigest },
      layers: layers.map(({ digest, size, compression }) => ({
        mediaType: `${mediaTypes.dockerLayer}${compression === 'sniff' ? '' : suffixes[compression]}`,
        size,
        digest,
      })),
    }),
  );
}

async function compressionOf({ path, offset, length }: Member) {
  if (length < 4) return 'none';
  for await (const head of createReadStream(path, { start: offset, end: offset + 3 }))
    return sniffCompression(head);
  return 'none';
}
