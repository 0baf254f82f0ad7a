// A container's mounts: the kernel file systems every container has, the pod's own files, what the CRI asks
// for, and the volumes the image declares. Nothing is created here; what must exist first is listed.
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Mount as CriMount, ImageSpec } from '../../cri-api/types.ts';
import { messageOf } from '../../errors.ts';
import type { SpecLookups } from './lookups.ts';
import { isShared, isSlave, type MountInfo, mountOf } from './mountinfo.ts';
import { type IdMappings, ociMappings } from './namespaces.ts';
import type { ImageConfig } from './process.ts';
import { refuse } from './refuse.ts';
import type { Linux, Mount } from './types.ts';

/** Host paths of the pod's files; one left out is not mounted. */
export interface SandboxFiles {
  hostname?: string | undefined;
  hosts?: string | undefined;
  resolvConf?: string | undefined;
  /** The pod's /dev/shm, a tmpfs; not used by pods with the host's IPC. */
  shm?: string | undefined;
}

/** What the handler's runtime can do (`runc features`). */
export interface RuntimeFeatures {
  recursiveReadOnlyMounts: boolean;
}

/** A mount whose source is (part of) an image: to be mounted on the host first. */
export interface ImageVolume {
  destination: string;
  image: ImageSpec;
  /** Path inside the image; empty = its root. */
  subPath: string;
}

/** A volume the image declares, on a directory of the container's own. */
export interface AnonymousVolume {
  destination: string;
  /** To be made, and filled with what the image has at `destination`, before the container is created. */
  hostPath: string;
}

/** A volume of a pod with a user namespace: ids on disk are ids inside the pod. */
export interface IdmappedMount {
  source: string;
  target: string;
}

export interface MountsRequest {
  subject: string;
  asked: readonly CriMount[];
  files: SandboxFiles;
  hostIpc: boolean;
  readonlyRootfs: boolean;
  privileged: boolean;
  cgroupWritable: boolean;
  /** The container mounts the cgroup2 tree of the host: v2, without a cgroup namespace of its own. */
  hostCgroup2: boolean;
  /** /sys cannot be mounted anew: the network namespace belongs to another user namespace. */
  sysfsByBind: boolean;
  mappings: IdMappings | undefined;
  features: RuntimeFeatures;
  image: ImageConfig;
  ignoreImageVolumes: boolean;
  /** Directory under which volumes with mapped owners are mounted first. */
  idmapDir: string;
  /** Directory of the container for the image's volumes. */
  volumesDir: string;
  /** Where the image volumes asked for are mounted on the host, by destination. */
  imageVolumePaths: ReadonlyMap<string, string>;
  lookups: Pick<SpecLookups, 'realPath' | 'mounts'>;
}

export interface Mounts {
  mounts: Mount[];
  rootfsPropagation: Linux['rootfsPropagation'];
  /** Directories to make (mode 0755) before the container is created. */
  hostPathsToCreate: string[];
  volumes: AnonymousVolume[];
  /** Mounts to make, with the owners mapped as the pod's user namespace says, before the container is created. */
  idmapped: IdmappedMount[];
  /** Host paths to be given the mount label, where SELinux is on. */
  relabel: string[];
}

/** A bind mount before it is put among the others. */
interface Bind {
  mount: Mount;
  hostPath: string;
  create: boolean;
  /** Where it is mounted with mapped owners, to be bound from there. */
  idmapTarget?: string | undefined;
  relabel: boolean;
  propagation: Linux['rootfsPropagation'];
}

export async function buildMounts(request: MountsRequest): Promise<Mounts> {
  const destinations = checkedDestinations(request);
  const hostMounts = readOnce(request.lookups);
  const binds = await Promise.all(
    request.asked.map((mount, index) => criBind(request, mount, destinations[index] ?? '', hostMounts)),
  );
  const taken = new Set(destinations);
  const volumes = anonymousVolumes(request, taken);
  for (const { destination } of volumes) taken.add(destination);
  const podFiles = podFileBinds(request).filter(({ mount }) => !taken.has(mount.destination));
  for (const { mount } of podFiles) taken.add(mount.destination);

  const own = (await kernelMounts(request, hostMounts)).filter(
    ({ destination }) => !taken.has(destination) && !(taken.has('/dev') && destination.startsWith('/dev/')),
  );
  const all = deduplicated([...binds, ...volumes.map(volumeBind), ...podFiles]);
  // A mount on a parent directory would hide those below it, so parents come first; else the order given stays.
  all.sort((a, b) => depth(a.mount.destination) - depth(b.mount.destination));
  return {
    mounts: [...own, ...(await Promise.all(all.map(bind => withLockedOptions(request, bind, hostMounts))))],
    rootfsPropagation: strongest(all.map(({ propagation }) => propagation)),
    hostPathsToCreate: [...new Set(all.filter(({ create }) => create).map(({ hostPath }) => hostPath))],
    volumes,
    idmapped: all.flatMap(({ hostPath: source, idmapTarget: target }) =>
      target === undefined ? [] : [{ source, target }],
    ),
    relabel: [...new Set(all.filter(({ relabel }) => relabel).map(({ hostPath }) => hostPath))],
  };
}

/** What a mount that reaches a user namespace keeps for good (mount_namespaces(7), "Restrictions on mount namespaces"). */
const lockedOptions = ['nosuid', 'nodev', 'noexec'];

/**
 * A bind mount is made read-only by mounting it anew, which in a user namespace must say again what is locked. runc before 1.2 leaves
 * that to us.
 */
async function withLockedOptions(
  { mappings, lookups }: MountsRequest,
  { mount, hostPath }: Bind,
  hostMounts: HostMounts,
): Promise<Mount> {
  if (mappings === undefined || !mount.options.includes('ro')) return mount;
  const on = mountOf(await hostMounts(), (await lookups.realPath(hostPath)) ?? hostPath);
  const locked = lockedOptions.filter(option => on?.options.includes(option));
  return { ...mount, options: [...mount.options, ...locked] };
}

/** How a failure of an image volume begins, for kubelet to know it (cri-api, pkg/errors: ErrImageVolumeMountFailed). */
export const imageVolumeFailed = 'ImageVolumeMountFailed: ';

/** The image mounts among the asked ones; the caller mounts them and says where in `imageVolumePaths`. */
export function imageVolumes(subject: string, asked: readonly CriMount[]): ImageVolume[] {
  return asked.flatMap(mount => {
    if (mount.image === null || mount.image.image === '') return [];
    const refused = `${imageVolumeFailed}${subject}`;
    const field = `mounts["${mount.containerPath}"]`;
    if (mount.hostPath !== '')
      refuse(refused, field, `has both an image and the host path ${mount.hostPath}`);
    if (path.isAbsolute(mount.imageSubPath) || mount.imageSubPath.split('/').includes('..')) {
      refuse(refused, `${field}.image_sub_path`, `"${mount.imageSubPath}" leaves the image`);
    }
    return [{ destination: destinationOf(subject, mount), image: mount.image, subPath: mount.imageSubPath }];
  });
}

/** The mount table, read when a mount first needs it. */
type HostMounts = () => Promise<MountInfo[]>;

function readOnce(lookups: Pick<SpecLookups, 'mounts'>): HostMounts {
  let mounts: Promise<MountInfo[]> | undefined;
  return () => {
    mounts ??= lookups.mounts();
    return mounts;
  };
}

function checkedDestinations({ subject, asked }: MountsRequest): string[] {
  const destinations = asked.map(mount => destinationOf(subject, mount));
  const byDestination = new Map<string, CriMount>();
  for (const [index, mount] of asked.entries()) {
    const destination = destinations[index] ?? '';
    const earlier = byDestination.get(destination);
    if (earlier !== undefined && JSON.stringify(earlier) !== JSON.stringify(mount)) {
      refuse(
        subject,
        `mounts["${mount.containerPath}"]`,
        `"${mount.hostPath}" and "${earlier.hostPath}" are both mounted there`,
      );
    }
    byDestination.set(destination, mount);
  }
  return destinations;
}

function destinationOf(subject: string, { containerPath }: CriMount): string {
  const field = `mounts["${containerPath}"].container_path`;
  if (!containerPath.startsWith('/')) refuse(subject, field, 'is not an absolute path');
  if (climbsOut(containerPath)) refuse(subject, field, 'leads out of the container');
  const destination = clean(containerPath);
  if (destination === '/') refuse(subject, field, 'would hide the root file system of the container');
  return destination;
}

/** path.normalize lets `/../x` be `/x`; whoever writes that means something else. */
function climbsOut(absolute: string): boolean {
  let level = 0;
  return absolute.split('/').some(part => {
    if (part === '..') level -= 1;
    else if (part !== '' && part !== '.') level += 1;
    return level < 0;
  });
}

function clean(absolute: string): string {
  const normal = path.posix.normalize(absolute);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

function depth(destination: string): number {
  return destination.split('/').length;
}

/** Identical mounts asked for twice are made once. */
function deduplicated(binds: readonly Bind[]): Bind[] {
  return [...new Map(binds.map(bind => [bind.mount.destination, bind])).values()];
}

function strongest(propagations: readonly Linux['rootfsPropagation'][]): Linux['rootfsPropagation'] {
  if (propagations.includes('rshared')) return 'rshared';
  return propagations.includes('rslave') ? 'rslave' : undefined;
}

async function criBind(
  request: MountsRequest,
  mount: CriMount,
  destination: string,
  hostMounts: HostMounts,
): Promise<Bind> {
  const { subject } = request;
  const field = `mounts["${mount.containerPath}"]`;
  const idmapped = asksForMappedIds(request, mount, field);
  const image = imageBind(request, mount, destination);
  if (image !== undefined) return image;

  if (mount.hostPath === '') refuse(subject, `${field}.host_path`, 'is empty, and there is no image');
  if (!path.isAbsolute(mount.hostPath)) {
    refuse(subject, `${field}.host_path`, `"${mount.hostPath}" is not an absolute path`);
  }
  const { hostPath, create } = await hostSource(request, mount, field);
  const access = accessOption(request, mount, field);
  const propagation = await propagationOption(request, mount, hostPath, field, hostMounts);
  const idmapTarget = idmapped ? path.join(request.idmapDir, fileName(destination)) : undefined;
  return {
    mount: bindMount(idmapTarget ?? hostPath, destination, [propagation, access]),
    hostPath,
    create,
    idmapTarget,
    relabel: mount.selinuxRelabel,
    propagation: rootPropagation[mount.propagation],
  };
}

/** A volume may be mapped as its pod is, and in no other way: ids would mean something else in each container. */
function asksForMappedIds(
  { subject, mappings }: MountsRequest,
  { uidMappings, gidMappings }: CriMount,
  field: string,
): boolean {
  if (uidMappings.length + gidMappings.length === 0) return false;
  if (mappings === undefined)
    refuse(subject, field, 'asks for mapped ids, but its pod has no user namespace');
  const uids = ociMappings(subject, `${field}.uidMappings`, uidMappings);
  const gids = ociMappings(subject, `${field}.gidMappings`, gidMappings);
  if (JSON.stringify({ uids, gids }) !== JSON.stringify(mappings)) {
    refuse(subject, field, 'asks for other mapped ids than those of the user namespace of its pod');
  }
  return true;
}

/** What the container's own root must at least be, so that mounts reach in or out through it. */
const rootPropagation = {
  PROPAGATION_PRIVATE: undefined,
  PROPAGATION_HOST_TO_CONTAINER: 'rslave',
  PROPAGATION_BIDIRECTIONAL: 'rshared',
} as const satisfies Record<CriMount['propagation'], Linux['rootfsPropagation']>;

function imageBind(
  { subject, imageVolumePaths }: MountsRequest,
  mount: CriMount,
  destination: string,
): Bind | undefined {
  const [volume] = imageVolumes(subject, [mount]);
  if (volume === undefined) return undefined;
  const hostPath =
    imageVolumePaths.get(destination) ??
    refuse(
      subject,
      `mounts["${mount.containerPath}"].image`,
      `"${volume.image.image}" is not mounted on this host`,
    );
  return {
    mount: bindMount(hostPath, destination, ['rprivate', 'ro']),
    hostPath,
    create: false,
    relabel: false,
    propagation: undefined,
  };
}

async function hostSource(
  { subject, lookups }: MountsRequest,
  { hostPath }: CriMount,
  field: string,
): Promise<{ hostPath: string; create: boolean }> {
  try {
    const real = await lookups.realPath(hostPath);
    return real === undefined
      ? { hostPath: clean(hostPath), create: true }
      : { hostPath: real, create: false };
  } catch (thrown) {
    return refuse(
      subject,
      `${field}.host_path`,
      `"${hostPath}" cannot be followed: ${messageOf(thrown)}`,
      thrown,
    );
  }
}

async function propagationOption(
  { subject }: MountsRequest,
  { propagation }: CriMount,
  hostPath: string,
  field: string,
  hostMounts: HostMounts,
): Promise<string> {
  if (propagation === 'PROPAGATION_PRIVATE') return 'rprivate';
  const on = mountOf(await hostMounts(), hostPath);
  const shared = on !== undefined && isShared(on);
  if (propagation === 'PROPAGATION_BIDIRECTIONAL') {
    if (!shared) refuse(subject, `${field}.propagation`, notPropagated(hostPath, on, 'a shared mount'));
    return 'rshared';
  }
  if (!shared && !(on !== undefined && isSlave(on))) {
    refuse(subject, `${field}.propagation`, notPropagated(hostPath, on, 'a shared or slave mount'));
  }
  return 'rslave';
}

function notPropagated(hostPath: string, on: MountInfo | undefined, needed: string): string {
  const where = on?.mountPoint ?? 'no mount';
  return `"${hostPath}" is on ${where}, which is not ${needed}; on the host run "mount --make-rshared ${where}"`;
}

function accessOption({ subject, features }: MountsRequest, mount: CriMount, field: string): string {
  if (!mount.recursiveReadOnly) return mount.readonly ? 'ro' : 'rw';
  const name = `${field}.recursive_read_only`;
  if (!mount.readonly) refuse(subject, name, 'needs readonly as well');
  if (mount.propagation !== 'PROPAGATION_PRIVATE') {
    refuse(subject, name, `needs private propagation, not ${mount.propagation}`);
  }
  if (!features.recursiveReadOnlyMounts) refuse(subject, name, 'is not supported by this runtime handler');
  return 'rro';
}

function bindMount(source: string, destination: string, options: readonly string[]): Mount {
  return { destination, type: 'bind', source, options: ['rbind', ...options] };
}

/** A file name that stands for a destination; building the spec again gives the same. */
function fileName(destination: string): string {
  return createHash('sha256').update(destination).digest('hex').slice(0, 16);
}

/** /etc/hostname, /etc/hosts, /etc/resolv.conf and /dev/shm of the pod. */
function podFileBinds({ files, hostIpc, readonlyRootfs }: MountsRequest): Bind[] {
  const access = readonlyRootfs ? 'ro' : 'rw';
  const bind = (source: string | undefined, destination: string, option: string): Bind[] =>
    source === undefined
      ? []
      : [
          {
            mount: bindMount(source, destination, ['rprivate', option]),
            hostPath: source,
            create: false,
            relabel: source !== '/dev/shm',
            propagation: undefined,
          },
        ];
  return [
    ...bind(files.hostname, '/etc/hostname', access),
    ...bind(files.hosts, '/etc/hosts', access),
    ...bind(files.resolvConf, '/etc/resolv.conf', access),
    ...bind(hostIpc ? '/dev/shm' : files.shm, '/dev/shm', 'rw'),
  ];
}

function anonymousVolumes(
  { subject, image, ignoreImageVolumes, volumesDir }: MountsRequest,
  taken: ReadonlySet<string>,
): AnonymousVolume[] {
  if (ignoreImageVolumes) return [];
  return [...new Set(Object.keys(image.Volumes ?? {}).map(declared => clean(`/${declared}`)))].flatMap(
    destination => {
      if (destination === '/') refuse(subject, 'Volumes of the image', 'has the root directory among them');
      if (taken.has(destination)) return [];
      return [{ destination, hostPath: path.join(volumesDir, fileName(destination)) }];
    },
  );
}

function volumeBind({ hostPath, destination }: AnonymousVolume): Bind {
  return {
    mount: bindMount(hostPath, destination, ['rprivate', 'rw']),
    hostPath,
    create: false,
    relabel: true,
    propagation: undefined,
  };
}

/** Options of an unprivileged /sys that cannot be mounted anew. */
export const boundSysfs: Mount = {
  destination: '/sys',
  type: 'bind',
  source: '/sys',
  options: ['rbind', 'rro', 'nosuid', 'nodev', 'noexec'],
};

export const procMount: Mount = {
  destination: '/proc',
  type: 'proc',
  source: 'proc',
  options: ['nosuid', 'noexec', 'nodev'],
};

export const devMount: Mount = {
  destination: '/dev',
  type: 'tmpfs',
  source: 'tmpfs',
  options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
};

async function kernelMounts(request: MountsRequest, hostMounts: HostMounts): Promise<Mount[]> {
  const { privileged, cgroupWritable, sysfsByBind } = request;
  return [
    procMount,
    devMount,
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      // gid 5 is the tty group of every distribution.
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    sysfsByBind
      ? boundSysfs
      : {
          destination: '/sys',
          type: 'sysfs',
          source: 'sysfs',
          options: ['nosuid', 'noexec', 'nodev', privileged ? 'rw' : 'ro'],
        },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: [
        'nosuid',
        'noexec',
        'nodev',
        'relatime',
        privileged || cgroupWritable ? 'rw' : 'ro',
        ...(await sharedCgroupOptions(request, hostMounts)),
      ],
    },
  ];
}

/**
 * A further mount of the host's one cgroup2 file system sets that file system's options anew, for the host
 * too; so the two that matter are said again.
 */
async function sharedCgroupOptions(
  { hostCgroup2 }: MountsRequest,
  hostMounts: HostMounts,
): Promise<string[]> {
  if (!hostCgroup2) return [];
  const hosts = mountOf(await hostMounts(), '/sys/fs/cgroup');
  return (hosts?.superOptions ?? []).filter(
    option => option === 'nsdelegate' || option === 'memory_recursiveprot',
  );
}
