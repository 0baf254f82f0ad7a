// PullImage: from a reference to an image on this node.
//
//     resolve -> choose the platform's manifest -> fetch its config
//
// and from there by the steps of lifecycle.ts. What a pull leaves when it ends early is whole blobs and the
// beginnings of blobs, which the next attempt goes on from, and nothing that counts as an image.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { CriError } from '../errors.ts';
import type { ContentStore } from './content.ts';
import { parseConfig } from './import.ts';
import type { LayerProgress } from './layers.ts';
import { layerCompression, maxDocumentBytes, mediaTypes } from './media-types.ts';
import {
  type Descriptor,
  descriptorSchema,
  type ImageConfig,
  indexSchema,
  type Manifest,
  manifestSchema,
  type Platform,
  parseDocument,
  sha256,
} from './oci.ts';
import { choosePlatform, formatPlatform, platformFit, platformOf } from './platform.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecord, ImageRecords } from './records.ts';
import { formatReference, parseReference, type Reference, repositoryOf } from './reference.ts';
import { type AuthConfig, credentialsByHost } from './registry/auth.ts';
import { createRegistryClient, type RegistryClient } from './registry/client.ts';
import { registryHosts } from './registry/hosts.ts';
import type { Transport } from './registry/transport.ts';
import type { ProxySettings, RegistryAccess } from './registry/types.ts';
import type { SharedTasks } from './shared-task.ts';
import { pairLayers, type WantedImage } from './wanted.ts';
import type { Works } from './works.ts';

export interface PullParts {
  records: ImageRecords;
  content: ContentStore;
  works: Works;
  pool: WorkerPool;
  platform: Platform;
  transport: Transport;
  proxy: ProxySettings;
  /** Directories of `registry.config_path`. */
  configPaths: readonly string[];
  /** Headers for every registry. */
  headers: readonly (readonly [name: string, value: string])[];
  progressTimeoutMs: number | undefined;
  running: SharedTasks<ImageRecord>;
}

export interface PullOptions {
  auth?: AuthConfig | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: LayerProgress) => void) | undefined;
}

const maxIndexDepth = 4;

/**
 * Pulls `text` and returns the image's record. Requests for the same image with the same credentials at the
 * same time are one pull, whose progress the first of them sees.
 * @throws CriError: invalidArgument, notFound, unauthenticated, permissionDenied, signatureInvalid, cancelled;
 * imageFailed, with a message that begins with `RegistryUnavailable` when it is the registry's fault.
 */
export async function pullImage(parts: PullParts, text: string, options: PullOptions): Promise<ImageRecord> {
  const reference = parseReference(text);
  const name = formatReference(reference);
  // Requests with different credentials are kept apart, so that one cannot use what the other may see.
  const asker = createHash('sha256')
    .update(JSON.stringify(options.auth ?? null))
    .digest('hex');
  return parts.running.run(`${name} ${asker}`, options.signal, async signal => {
    try {
      const resolve = (inner: AbortSignal) => resolveImage(parts, reference, inner, options);
      return await parts.works.pull(name, resolve, { signal, onProgress: options.onProgress });
    } catch (error) {
      throw named(error, name);
    }
  });
}

/** Says which image it was about; what kubelet looks for stays in front. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof CriError) || error.kind === 'cancelled' || error.message.includes(name))
    return error;
  const marker = /^(RegistryUnavailable|SignatureValidationFailed): /.exec(error.message)?.[0] ?? '';
  return new CriError(error.kind, `${marker}pulling ${name}: ${error.message.slice(marker.length)}`, {
    cause: error,
  });
}

/** A document with what names it. */
interface Document {
  descriptor: Descriptor;
  bytes: Buffer;
}

/** The first step: everything that the registry has to say before its layers are fetched. */
async function resolveImage(
  parts: PullParts,
  reference: Reference,
  signal: AbortSignal,
  options: PullOptions,
): Promise<{ image: WantedImage; judged: Descriptor }> {
  parts.pool.prepare(); // they start while the registry is asked
  const access = await openAccess(parts, reference, options.auth);
  const client = createRegistryClient(access, parts.transport);
  const top = await resolve(parts, client, reference, signal);
  const names = [
    ...new Set([formatReference(reference), `${repositoryOf(reference)}@${top.descriptor.digest}`]),
  ];
  const target = names.map(name => ({ name, target: top.descriptor.digest }));

  const documents: Document[] = [];
  const chosen = await chooseManifest(parts, client, top, documents, signal, 0);
  const manifest = readManifest(chosen);
  const config = await fetchConfig(parts, client, manifest, signal);
  const { digest, platform } = chosen.descriptor;
  // As with containerd: who names a manifest itself gets it, whatever it was built for.
  if (digest !== top.descriptor.digest && !platform) checkPlatform(config.config, parts.platform, digest);
  const image: WantedImage = {
    manifest: chosen.descriptor,
    configDigest: manifest.config.digest,
    config: config.config,
    documents: [...documents.map(document => document.bytes), config.bytes],
    layers: pairLayers(layersOf(manifest, access), config.config, formatReference(reference)),
    names: target,
  };
  return { image, judged: top.descriptor };
}

async function openAccess(
  parts: PullParts,
  reference: Reference,
  auth: AuthConfig | undefined,
): Promise<RegistryAccess> {
  const hosts = await registryHosts(reference.host, parts.configPaths);
  return {
    registry: reference.host,
    repository: reference.path,
    hosts,
    credentials: credentialsByHost(auth, hosts),
    headers: parts.headers,
    proxy: parts.proxy,
    progressTimeoutMs: parts.progressTimeoutMs,
    grants: {},
    plainHosts: [],
  };
}

/** What the reference stands for now. A tag that has not moved costs one HEAD and no manifest. */
async function resolve(
  parts: PullParts,
  client: RegistryClient,
  reference: Reference,
  signal: AbortSignal,
): Promise<Document> {
  const wanted = reference.digest ?? reference.tag ?? 'latest';
  const known = reference.digest ?? parts.records.names.get(formatReference(reference))?.target;
  if (known !== undefined && parts.content.has(known)) {
    const head = await client.head(wanted, signal);
    if (head?.digest === known) {
      const bytes = await parts.content.read(known);
      return { descriptor: describe(known, head.mediaType, bytes), bytes };
    }
  }
  const { bytes, mediaType, digest, host } = await client.manifest(wanted, signal);
  const found = sha256(bytes);
  const stated = reference.digest ?? digest;
  if (stated?.startsWith('sha256:') && stated !== found) {
    throw new CriError(
      'imageFailed',
      `registry host ${host} sent a manifest of digest ${found} where ${stated} was asked for`,
    );
  }
  return { descriptor: describe(found, mediaType, bytes), bytes };
}

function describe(digest: string, mediaType: string, bytes: Buffer): Descriptor {
  return descriptorSchema.parse({ digest, mediaType, size: bytes.length });
}

const anyManifest = z.looseObject({ schemaVersion: z.number().optional(), mediaType: z.string().optional() });

/** Follows indexes to the manifest for this platform; gathers every document on the way, the manifest last. */
async function chooseManifest(
  parts: PullParts,
  client: RegistryClient,
  document: Document,
  documents: Document[],
  signal: AbortSignal,
  depth: number,
): Promise<Document> {
  const { descriptor, bytes } = document;
  if (depth > maxIndexDepth)
    throw new CriError('imageFailed', `index ${descriptor.digest} is nested more than ${maxIndexDepth} deep`);
  const value = parseDocument(bytes, anyManifest, `manifest ${descriptor.digest}`);
  if (value.schemaVersion === 1) {
    throw new CriError(
      'imageFailed',
      `manifest ${descriptor.digest} is of docker's schema 1, which is not supported: push the image again with a current tool`,
    );
  }
  documents.push(document);
  // The document's own media type decides; a registry may serve it under another.
  const mediaType = value.mediaType ?? ('manifests' in value ? mediaTypes.ociIndex : descriptor.mediaType);
  const isIndex = mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerIndex;
  if (isIndex !== 'manifests' in value) {
    throw new CriError(
      'imageFailed',
      `manifest ${descriptor.digest} contradicts its media type ${mediaType}`,
    );
  }
  if (!isIndex)
    return { descriptor: { ...descriptor, mediaType: mediaType || mediaTypes.ociManifest }, bytes };
  const { manifests } = parseDocument(bytes, indexSchema, `index ${descriptor.digest}`);
  const [best] = choosePlatform(manifests, parts.platform);
  if (!best) {
    const offered = manifests
      .map(entry => (entry.platform ? formatPlatform(entry.platform) : 'unknown'))
      .join(', ');
    throw new CriError(
      'notFound',
      `it has no image for ${formatPlatform(parts.platform)}, only for ${offered || 'nothing'}`,
    );
  }
  const next = await fetchManifest(parts, client, best, signal);
  return chooseManifest(parts, client, next, documents, signal, depth + 1);
}

async function fetchManifest(
  parts: PullParts,
  client: RegistryClient,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<Document> {
  refuseLarge(descriptor, 'manifest');
  if (parts.content.has(descriptor.digest))
    return { descriptor, bytes: await parts.content.read(descriptor.digest) };
  const { bytes } = await client.manifest(descriptor.digest, signal);
  checkDocument(descriptor, bytes, 'manifest');
  return { descriptor, bytes };
}

function readManifest({ descriptor, bytes }: Document): Manifest {
  const manifest = parseDocument(bytes, manifestSchema, `manifest ${descriptor.digest}`);
  const other = manifest.layers.find(layer => layerCompression(layer.mediaType) === undefined);
  if (manifest.artifactType !== undefined || other) {
    throw new CriError(
      'imageFailed',
      `it is an artifact (${manifest.artifactType ?? `with content of type ${other?.mediaType}`}), not a container image`,
    );
  }
  return manifest;
}

async function fetchConfig(
  parts: PullParts,
  client: RegistryClient,
  { config }: Manifest,
  signal: AbortSignal,
) {
  refuseLarge(config, 'image config');
  const stored = parts.content.has(config.digest);
  const bytes = stored
    ? await parts.content.read(config.digest)
    : await client.document(config.digest, signal);
  checkDocument(config, bytes, 'image config');
  return { bytes, config: parseConfig(config, bytes) };
}

function refuseLarge({ digest, size }: Descriptor, what: string): void {
  if (size <= maxDocumentBytes) return;
  throw new CriError(
    'imageFailed',
    `${what} ${digest} has ${size} bytes, more than the ${maxDocumentBytes} that are accepted`,
  );
}

function checkDocument({ digest, size }: Descriptor, bytes: Buffer, what: string): void {
  const found = sha256(bytes);
  if (found !== digest)
    throw new CriError(
      'imageFailed',
      `${what} ${digest} has the digest ${found}: its content is not what was named`,
    );
  if (bytes.length !== size)
    throw new CriError('imageFailed', `${what} ${digest} has ${bytes.length} bytes, ${size} were stated`);
}

/** An index need not say for which machine an image is; its config does. */
function checkPlatform(config: ImageConfig, platform: Platform, digest: string): void {
  const offered = platformOf(config);
  if (!offered || platformFit(offered, platform) > 0) return;
  throw new CriError(
    'notFound',
    `manifest ${digest} is an image for ${formatPlatform(offered)}, this node needs ${formatPlatform(platform)}`,
  );
}

function layersOf(manifest: Manifest, access: RegistryAccess) {
  return manifest.layers.map(({ digest, size, mediaType }) => ({
    digest,
    size,
    compression: layerCompression(mediaType) ?? ('sniff' as const),
    source: { kind: 'registry' as const, access, digest, size },
  }));
}
