// Root filesystems of containers: an overlay of the image's layers with a writable layer on top, or without
// one. Each function is idempotent, because they are the `do` and `undo` of steps that a crash may repeat.
//
//     <root>/containers/<id>/{upper,work}    the writable layer
//     <state>/containers/<id>/rootfs         where it is mounted
//     <state>/containers/<id>-layers         where its layers are for the moment of mounting, with mapped owners
// What is a few microseconds in the kernel is done at once: a turn of Node's thread pool takes many times longer.
import { chmodSync, chownSync, existsSync, rmdirSync, type Stats, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CriError, codeOf } from '../errors.ts';
import { makeDirectoriesSync } from '../host/directories.ts';
import type { HostThread } from '../host/host-thread.ts';
import { unmountIdmapped } from '../host/idmap.ts';
import { mount as bindMount, unmount as unmountNow } from '../host/mount.ts';
import { hostId, type IdRange } from '../host/userns.ts';
import type { Collection } from '../store/store.ts';
import type { DiskUsage } from './jobs.ts';
import type { LayerStore } from './layers.ts';
import type { Leases } from './leases.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecord, RootfsRecord } from './records.ts';
import { removeSmall } from './remove-small.ts';

export interface RootFilesystems {
  /**
   * Records that `containerId` stands on the image `imageId`, which keeps its layers, and makes its writable
   * layer unless `readonly`.
   * @throws CriError notFound when the image is not there.
   */
  prepare(
    containerId: string,
    imageId: string,
    options: { readonly: boolean; userns?: RootfsOwners | undefined },
  ): Promise<void>;
  /**
   * Fills the writable layer of a prepared, not yet mounted root filesystem from a layer archive.
   * @throws CriError imageFailed when it is none
   */
  applyDifference(containerId: string, archive: string, signal: AbortSignal): Promise<void>;
  /** Packs the writable layer into a layer archive at `to`, mode 0600. */
  packDifference(containerId: string, to: string, signal: AbortSignal): Promise<void>;
  /** A directory that goes with the root filesystem: of the container, on the disk that holds its writable layer. */
  directory(containerId: string): string;
  /** Where `mount` puts it. */
  path(containerId: string): string;
  /** Mounts it; returns the mount point. @throws CriError notFound when it was not prepared. */
  mount(containerId: string, options?: MountOptions): Promise<string>;
  unmount(containerId: string): Promise<void>;
  /** Unmounts it, removes its writable layer and lets go of the image's layers. */
  remove(containerId: string): Promise<void>;
  /** Disk usage of the writable layer; zero when there is none. */
  usage(containerId: string): Promise<DiskUsage>;
  /** The writable layer's directory, for what compares it with the image. */
  upperDirectory(containerId: string): string;
  /** Ids of all that are prepared. */
  list(): string[];
}

/** The user namespace that the files are to belong to; what is 0 in an image is its root. */
export interface RootfsOwners {
  /** Where it is bound. */
  path: string;
  uids: readonly IdRange[];
  gids: readonly IdRange[];
}

export interface MountOptions {
  userns?: RootfsOwners | undefined;
  /** SELinux label that all files appear with. */
  label?: string | undefined;
  /** When it aborts before the mount was begun, there will be none. */
  signal?: AbortSignal | undefined;
}

export interface RootFilesystemParts {
  root: string;
  state: string;
  records: Collection<RootfsRecord>;
  image(id: string): ImageRecord | undefined;
  layers: LayerStore;
  leases: Leases;
  pool: WorkerPool;
  host: Pick<HostThread, 'mountOverlay' | 'settled'>;
  /** Called when layers may have lost their last user. */
  released(): Promise<void>;
}

export function createRootFilesystems(parts: RootFilesystemParts): RootFilesystems {
  const { records, layers, pool } = parts;
  const writable = (id: string) => join(parts.root, 'containers', id);
  const upperDirectory = (id: string) => join(writable(id), 'upper');
  const workDirectory = (id: string) => join(writable(id), 'work');
  const path = (id: string) => join(parts.state, 'containers', id, 'rootfs');
  // Beside the directories of the container, and in none: a killed daemon leaves all layers of the node there.
  const mappedLayers = (id: string) => join(parts.state, 'containers', `${id}-layers`);

  async function prepare(
    id: string,
    imageId: string,
    { readonly, userns }: { readonly: boolean; userns?: RootfsOwners | undefined },
  ): Promise<void> {
    if (!records.get(id)) await keep(id, imageId, readonly);
    const record = records.get(id);
    if (readonly || !record) return;
    makeDirectoriesSync(workDirectory(id), 0o700);
    makeDirectoriesSync(upperDirectory(id), 0o755);
    // Overlayfs shows the attributes of the uppermost root directory as the root's own.
    const top = record.layers.at(-1);
    const { uid, gid, mode } = statSync(top === undefined ? layers.empty[0] : layers.path(top));
    const [owner, group] = userns ? [hostId(userns.uids, uid), hostId(userns.gids, gid)] : [uid, gid];
    chownSync(upperDirectory(id), owner ?? unmapped, group ?? unmapped);
    chmodSync(upperDirectory(id), mode & 0o7777);
  }

  async function keep(id: string, imageId: string, readonly: boolean): Promise<void> {
    const record = recordOf(id, imageId, readonly);
    // Until the record is there, the image could be removed together with its layers.
    const release = parts.leases.hold(record.chain);
    try {
      await records.put(id, record);
    } finally {
      release();
    }
  }

  function recordOf(id: string, imageId: string, readonly: boolean): RootfsRecord {
    const image = parts.image(imageId);
    if (!image)
      throw new CriError('notFound', `image ${imageId} of ${id} is not on this node: pull it first`);
    const numbers = image.chain.map(chainId => {
      const layer = layers.get(chainId);
      if (layer && existsSync(layers.path(layer.n))) return layer.n;
      throw new CriError(
        'imageFailed',
        `layer ${chainId} of image ${imageId} is missing: remove the image and pull it again`,
      );
    });
    return { image: imageId, layers: numbers, chain: image.chain, readonly };
  }

  async function applyDifference(id: string, archive: string, signal: AbortSignal): Promise<void> {
    const record = records.get(id);
    if (!record) throw new CriError('notFound', `container ${id} has no root filesystem prepared`);
    const { size: length } = await stat(archive);
    await pool.run('remove', { path: upperDirectory(id) });
    const { unsettled } = await pool.run(
      'layer',
      {
        source: { kind: 'file', path: archive, offset: 0, length },
        digest: undefined,
        size: undefined,
        compression: 'sniff',
        keep: undefined,
        unpackInto: upperDirectory(id),
      },
      { signal },
    );
    const lower = record.layers.map(layers.path).reverse();
    await pool.run('settle', { layer: upperDirectory(id), lower, unsettled });
  }

  async function mount(id: string, { userns, label, signal }: MountOptions = {}): Promise<string> {
    const record = records.get(id);
    if (!record) throw new CriError('notFound', `container ${id} has no root filesystem prepared`);
    const target = path(id);
    // A container's directory is there already; one for an image volume is made here, for root alone.
    makeDirectoriesSync(dirname(target), 0o700);
    makeDirectoriesSync(target, 0o711);
    if (isMounted(target, layers.empty[0])) return target;
    const lowerDirs = record.layers.map(layers.path).reverse();
    if (record.readonly && lowerDirs.length === 0) {
      bindMount({ source: layers.empty[0], target, flags: ['bind'] });
      bindMount({ source: 'none', target, flags: ['bind', 'remount', 'ro'] });
      return target;
    }
    // An overlay needs one lower layer, and two when it has no upper one.
    if (lowerDirs.length < (record.readonly ? 2 : 1)) lowerDirs.push(layers.empty[0]);
    const overlay = {
      lowerDirs,
      target,
      ...(label === undefined ? {} : { options: [`context="${label}"`] }),
      idmap: userns && { usernsPath: userns.path, scratch: mappedLayers(id) },
      ...(record.readonly ? {} : { upper: { upperDir: upperDirectory(id), workDir: workDirectory(id) } }),
    };
    await parts.host.mountOverlay(overlay, signal);
    return target;
  }

  async function unmount(id: string): Promise<void> {
    await parts.host.settled(path(id));
    while (unmountNow(path(id)));
    removeEmpty(path(id));
    unmountIdmapped(mappedLayers(id));
  }

  return {
    prepare,
    applyDifference,
    async packDifference(id, to, signal) {
      await pool.run('difference', { directory: upperDirectory(id), to }, { signal });
    },
    directory: writable,
    path,
    mount,
    unmount,
    async remove(id) {
      await unmount(id);
      unmountIdmapped(join(writable(id), 'layers')); // where killed daemons of an earlier release left them
      if (!removeSmall(writable(id))) await pool.run('remove', { path: writable(id) });
      removeEmpty(join(parts.state, 'containers', id));
      if (!records.get(id)) return;
      await records.remove(id);
      await parts.released();
    },
    async usage(id) {
      return pool.run('measure', { path: upperDirectory(id) });
    },
    upperDirectory,
    list: () => records.entries().map(([id]) => id),
  };
}

/** nobody: how an id that a user namespace does not map appears. */
const unmapped = 65534;

/** Others keep their own things in a container's state directory; it goes when it is empty. */
function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(codeOf(error) ?? '')) throw error;
  }
}

/**
 * Whether the root file system is mounted on `target`: a mount is of another file system than the directory it is in, but
 * for `empty`, which may be bound there. The mount table would tell it too, and grows with the pods.
 */
function isMounted(target: string, empty: string): boolean {
  const [there, above, bound] = [target, dirname(target), empty].map(path => statSync(path)) as [
    Stats,
    Stats,
    Stats,
  ];
  return there.dev !== above.dev || (there.dev === bound.dev && there.ino === bound.ino);
}
