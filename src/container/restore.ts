// Restoring: CreateContainer is given a checkpoint, as an archive on this node or as an image, in place of an image.
// The container is made on the image that the checkpoint names; StartContainer lets criu bring back its processes.
import { constants } from 'node:fs';
import { copyFile, lstat, readdir, readFile, rm, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { CriError, codeOf, messageOf } from '../errors.ts';
import type { Images } from '../image/images.ts';
import type { RuntimeSpec } from '../oci/spec/types.ts';
import { checkpointNames } from './checkpoint.ts';
import type { Container } from './container.ts';

/** What a container goes on from. */
export type RestoreSource = NonNullable<Container['restore']>;

export interface FoundCheckpoint {
  source: RestoreSource;
  /** The image that the container stood on, by digest, then by name. */
  baseImages: readonly string[];
}

/** An image with one of these annotations holds the files of a checkpoint archive. */
const imageAnnotations = [
  'org.criu.checkpoint.container.name',
  'io.kubernetes.cri-o.annotations.checkpoint.name',
];

const configDumpSchema = z.object({
  rootfsImageRef: z.string().default(''),
  rootfsImageName: z.string().default(''),
});

/** The checkpoint that an image name of CreateContainer means; undefined when it means an image to start. */
export async function findCheckpoint(
  name: string,
  images: Images,
  signal: AbortSignal,
): Promise<FoundCheckpoint | undefined> {
  if (isAbsolute(name)) {
    if (!(await isFile(name))) return undefined;
    const documents = await images.readArchive(name, [checkpointNames.config], signal);
    return {
      source: { kind: 'archive', path: name },
      baseImages: baseImages(name, documents.get(checkpointNames.config)),
    };
  }
  const image = images.status(name);
  // A checkpoint has nothing to start; so images that do need not be looked into.
  if (!image || (image.config.Entrypoint ?? image.config.Cmd ?? []).length > 0) return undefined;
  const annotations = await images.annotations(image.id);
  if (!imageAnnotations.some(key => key in annotations)) return undefined;
  const document = await images.readFile(image.id, checkpointNames.config);
  return { source: { kind: 'image', imageId: image.id }, baseImages: baseImages(name, document) };
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

function baseImages(name: string, document: Buffer | undefined): string[] {
  if (!document) {
    throw new CriError('invalidArgument', `${name} is no checkpoint: it has no ${checkpointNames.config}`);
  }
  try {
    const { rootfsImageRef, rootfsImageName } = configDumpSchema.parse(JSON.parse(document.toString('utf8')));
    return [rootfsImageRef, rootfsImageName].filter(image => image !== '');
  } catch (error) {
    throw new CriError(
      'invalidArgument',
      `${checkpointNames.config} of ${name} is not valid: ${messageOf(error)}`,
    );
  }
}

/** The image to make the container on, pulled by its name when it is not there. @throws CriError notFound, as a pull does */
export async function checkpointBase(
  found: FoundCheckpoint,
  images: Images,
  signal: AbortSignal,
): Promise<string> {
  for (const reference of found.baseImages) {
    const image = images.status(reference);
    if (image) return image.id;
  }
  const name = found.baseImages.at(-1);
  if (name === undefined)
    throw new CriError('invalidArgument', 'the checkpoint names no image that it stood on');
  return images.pull(name, { signal });
}

/** Where the files of a container's checkpoint are while it has yet to be restored. */
export function checkpointDirectory({ id, restore }: Container, images: Images): string {
  return restore?.kind === 'image'
    ? images.rootfs.path(checkpointRootfs(id))
    : join(images.rootfs.directory(id), 'checkpoint');
}

const checkpointRootfs = (id: string) => `${id}-checkpoint`;

/** Brings the files of the checkpoint where `checkpointDirectory` says. @throws CriError imageFailed, invalidArgument */
export async function unpackCheckpoint(
  container: Container,
  images: Images,
  signal: AbortSignal,
): Promise<void> {
  const { id, restore } = container;
  const directory = checkpointDirectory(container, images);
  if (restore?.kind === 'image') {
    await images.rootfs.prepare(checkpointRootfs(id), restore.imageId, { readonly: true });
    await images.rootfs.mount(checkpointRootfs(id), { signal });
  } else if (restore) {
    await rm(directory, { recursive: true, force: true });
    await images.unpackArchive(restore.path, directory, signal);
  }
  await requirePlainFiles(directory, id);
}

/** Idempotent. */
export async function removeCheckpoint({ id, restore }: Container, images: Images): Promise<void> {
  if (restore?.kind === 'image') await images.rootfs.remove(checkpointRootfs(id));
  else await rm(join(images.rootfs.directory(id), 'checkpoint'), { recursive: true, force: true });
}

/** An archive comes from anywhere: a link in it must lead neither criu nor us to other files of the node. */
async function requirePlainFiles(directory: string, id: string): Promise<void> {
  const refuse = (why: string) =>
    new CriError('invalidArgument', `container ${id} cannot be restored: ${why}`);
  const images = join(directory, checkpointNames.images);
  if (!(await lstat(images).catch(() => undefined))?.isDirectory())
    throw refuse(`the checkpoint has no directory ${checkpointNames.images}`);
  const { config, spec, difference, log } = checkpointNames;
  const files = [
    ...[config, spec, difference, log].map(name => join(directory, name)),
    ...(await readdir(images)).map(name => join(images, name)),
  ];
  for (const file of files) {
    const found = await lstat(file).catch(() => undefined);
    if (found && !found.isFile())
      throw refuse(`${file.slice(directory.length + 1)} of the checkpoint is no file`);
  }
}

/** What the container had written, put into its writable layer before that is mounted. */
export async function restoreDifference(
  container: Container,
  images: Images,
  signal: AbortSignal,
): Promise<void> {
  const archive = join(checkpointDirectory(container, images), checkpointNames.difference);
  if (await isFile(archive)) await images.rootfs.applyDifference(container.id, archive, signal);
}

const specDumpSchema = z.object({
  mounts: z
    .array(z.object({ destination: z.string(), type: z.string().default('') }))
    .nullish()
    .transform(mounts => mounts ?? []),
});

/** criu finds each mount again by its destination: those of the checkpoint must be there. @throws CriError invalidArgument */
export async function requireSameMounts(
  container: Container,
  spec: RuntimeSpec,
  images: Images,
): Promise<void> {
  const file = join(checkpointDirectory(container, images), checkpointNames.spec);
  const text = await readFile(file, 'utf8').catch(error => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return;
  const there = new Set(spec.mounts.map(({ destination }) => destination));
  const missing = specDumpSchema
    .parse(JSON.parse(text))
    .mounts.filter(({ type, destination }) => type === 'bind' && !there.has(destination))
    .map(({ destination }) => destination);
  if (missing.length === 0) return;
  throw new CriError(
    'invalidArgument',
    `container ${container.id} cannot be restored: the checkpoint has mounts on ${missing.join(', ')}, the request has none there`,
  );
}

/** The log goes on where that of the checkpoint ended. One that is there already is kept. */
export async function restoreLog(container: Container, images: Images): Promise<void> {
  if (container.logPath === null) return;
  const from = join(checkpointDirectory(container, images), checkpointNames.log);
  await copyFile(from, container.logPath, constants.COPYFILE_EXCL).catch(error => {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'EEXIST') throw error;
  });
}
