// CheckpointContainer: the state of a running container's processes (criu), what it has written, and what is known of
// it, as one archive in the form that containerd, CRI-O and checkpointctl read. The container goes on running.
import { copyFile, lstat, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { CriError, codeOf, messageOf } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';
import type { Images } from '../image/images.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { Container } from './container.ts';
import { bundlePath } from './lifecycle.ts';
import { requireOwnLog } from './log-path.ts';

/** Names within an archive (checkpoint-restore/checkpointctl, lib/metadata.go). */
export const checkpointNames = {
  config: 'config.dump',
  spec: 'spec.dump',
  status: 'status.dump',
  /** containerd's own status document. */
  containerdStatus: 'status',
  /** criu's images. */
  images: 'checkpoint',
  difference: 'rootfs-diff.tar',
  log: 'container.log',
  dumpLog: 'dump.log',
} as const;

export interface CheckpointHost {
  state: string;
  images: Images;
  runtime: OciRuntime;
  /** Name of the handler, for the archive. */
  runtimeName: string;
  criuDirectory: string;
  /** The log directory of the container's pod. */
  logDirectory: string;
}

/**
 * Writes the archive to `location`, mode 0600; nothing is left there when that fails. Nobody may start, stop or remove
 * the container meanwhile. @throws CriError wrongState, invalidArgument, runtimeFailed with criu's last error
 */
export async function checkpointContainer(
  container: Container,
  location: string,
  host: CheckpointHost,
  signal: AbortSignal,
): Promise<void> {
  const { id, phase } = container;
  if (phase !== 'running') {
    throw new CriError('wrongState', `container ${id} cannot be checkpointed: it is ${phase}, not running`);
  }
  await requireLocation(location, id);
  const directory = join(host.images.rootfs.directory(id), 'checkpoint-out');
  await rm(directory, { recursive: true, force: true });
  await makeDirectories(join(directory, checkpointNames.images), 0o700);
  try {
    await held(container, host.runtime, async () => {
      const imagePath = join(directory, checkpointNames.images);
      const { criuDirectory } = host;
      await host.runtime.checkpoint(id, { imagePath, workPath: directory, criuDirectory }, signal);
      // While it is still: files that criu has seen open must not have another size in the archive.
      await host.images.rootfs.packDifference(id, join(directory, checkpointNames.difference), signal);
      // A restored container's log goes on where this one ends.
      await copyLog(container, directory, host);
    });
    await writeDocuments(container, directory, host);
    await host.images.packArchive(await membersOf(directory), location, signal);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function requireLocation(location: string, id: string): Promise<void> {
  const refuse = (why: string) =>
    new CriError('invalidArgument', `container ${id} cannot be checkpointed to "${location}": ${why}`);
  if (!isAbsolute(location)) throw refuse('it is not an absolute path');
  const parent = await stat(dirname(location)).catch(error => {
    throw refuse(messageOf(error));
  });
  if (!parent.isDirectory()) throw refuse(`${dirname(location)} is not a directory`);
  if ((await lstat(location).catch(() => undefined))?.isDirectory()) throw refuse('it is a directory');
}

/** Stops the container where it stands during `work`. That it is held is on record: a daemon's successor lets it go on. */
async function held(container: Container, runtime: OciRuntime, work: () => Promise<void>): Promise<void> {
  container.held = true;
  await container.save();
  try {
    await runtime.pause(container.id);
    await work();
  } finally {
    await letGo(container, runtime);
  }
}

/** Lets a container go on that a checkpoint holds still. */
export async function letGo(container: Container, runtime: OciRuntime): Promise<void> {
  await runtime.resume(container.id);
  container.held = false;
  await container.save();
}

async function writeDocuments(container: Container, directory: string, host: CheckpointHost): Promise<void> {
  const write = (name: string, document: unknown) =>
    writeFile(join(directory, name), withInt64(document), { mode: 0o600 });
  await write(checkpointNames.config, configDump(container, host));
  await write(checkpointNames.status, statusDump(container));
  await write(checkpointNames.containerdStatus, containerdStatus(container));
  await copyFile(
    join(bundlePath(host.state, container.id), 'config.json'),
    join(directory, checkpointNames.spec),
  );
}

async function copyLog(
  container: Container,
  directory: string,
  { logDirectory }: CheckpointHost,
): Promise<void> {
  const { logPath } = container;
  if (logPath === null) return;
  requireOwnLog(container, logDirectory);
  await copyFile(logPath, join(directory, checkpointNames.log)).catch(error => {
    if (codeOf(error) !== 'ENOENT') throw error;
  });
}

function configDump(container: Container, { runtimeName, images }: CheckpointHost): object {
  const { id, config, imageId, imageRef, createdAt } = container;
  const named = images.status(imageId)?.repoTags[0] ?? imageRef;
  return {
    id,
    name: config.metadata?.name ?? '',
    rootfsImage: named,
    rootfsImageRef: imageRef,
    rootfsImageName: named,
    runtime: runtimeName,
    createdTime: new Date(Number(BigInt(createdAt) / 1_000_000n)).toISOString(),
    checkpointedTime: new Date().toISOString(),
    restoredTime: '0001-01-01T00:00:00Z',
    restored: false,
  };
}

const runningState = 1; // CONTAINER_RUNNING

/** runtime.v1.ContainerStatus as Go's encoding/json writes it. */
function statusDump(container: Container): object {
  const { id, config, imageId, imageRef, logPath } = container;
  return {
    id,
    metadata: config.metadata,
    state: runningState,
    created_at: int64(container.createdAt),
    started_at: int64(container.startedAt),
    image: { image: config.image?.image ?? '', user_specified_image: config.image?.userSpecifiedImage ?? '' },
    image_ref: imageRef,
    image_id: imageId,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts.map(({ containerPath, hostPath, readonly }) => ({
      container_path: containerPath,
      host_path: hostPath,
      readonly,
    })),
    log_path: logPath ?? '',
  };
}

function containerdStatus(container: Container): object {
  return {
    Version: 'v1',
    Pid: container.init?.pid ?? 0,
    CreatedAt: int64(container.createdAt),
    StartedAt: int64(container.startedAt),
    FinishedAt: 0,
    ExitCode: 0,
    Reason: '',
    Message: '',
  };
}

const int64Mark = 'int64:';
const int64 = (decimal: string) => `${int64Mark}${decimal}`;

/** JSON in which marked texts are numbers: nanoseconds of now need more digits than a double has. */
function withInt64(document: unknown): string {
  return JSON.stringify(document, null, 2).replace(new RegExp(`"${int64Mark}(-?\\d+)"`, 'g'), '$1');
}

/** The files of the directory and of criu's images below it. */
async function membersOf(directory: string): Promise<{ name: string; path: string; size: number }[]> {
  const inside = await readdir(join(directory, checkpointNames.images));
  const names = [
    ...(await readdir(directory)).filter(name => name !== checkpointNames.images),
    ...inside.map(name => join(checkpointNames.images, name)),
  ];
  const members = names.map(async name => {
    const path = join(directory, name);
    const found = await lstat(path);
    return found.isFile() && basename(name) !== '' ? [{ name, path, size: found.size }] : [];
  });
  return (await Promise.all(members)).flat();
}
