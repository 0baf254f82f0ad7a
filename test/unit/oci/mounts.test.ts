import { expect, test } from 'vitest';
import type { MountInfo } from '../../../src/oci/spec/mountinfo.ts';
import { buildMounts, imageVolumes, type MountsRequest } from '../../../src/oci/spec/mounts.ts';
import { lookups, mount } from './fixtures.ts';

function build(over: Partial<MountsRequest> = {}) {
  return buildMounts({
    subject: 'container "c" (1)',
    asked: [],
    files: {
      hostname: '/pod/hostname',
      hosts: '/pod/hosts',
      resolvConf: '/pod/resolv.conf',
      shm: '/pod/shm',
    },
    hostIpc: false,
    readonlyRootfs: false,
    privileged: false,
    cgroupWritable: false,
    hostCgroup2: false,
    sysfsByBind: false,
    mappings: undefined,
    features: { recursiveReadOnlyMounts: true },
    image: {},
    ignoreImageVolumes: false,
    idmapDir: '/idmapped/abc',
    volumesDir: '/container/volumes',
    imageVolumePaths: new Map(),
    lookups: lookups(),
    ...over,
  });
}

async function mountAt(destination: string, over: Partial<MountsRequest>) {
  return (await build(over)).mounts.find(found => found.destination === destination);
}

async function destinations(over: Partial<MountsRequest> = {}) {
  return (await build(over)).mounts.map(({ destination }) => destination);
}

function mountInfo(mountPoint: string, ...optionalFields: string[]): MountInfo {
  return { mountPoint, options: ['rw'], optionalFields, fsType: 'ext4', superOptions: [] };
}

test('every container has the kernel file systems first, then the files of its pod', async () => {
  expect(await destinations()).toEqual([
    '/proc',
    '/dev',
    '/dev/pts',
    '/dev/mqueue',
    '/sys',
    '/sys/fs/cgroup',
    '/etc/hostname',
    '/etc/hosts',
    '/etc/resolv.conf',
    '/dev/shm',
  ]);
});

test('sysfs and cgroups are read-only, writable when privileged, and cgroups also when the handler says so', async () => {
  const access = async (destination: string, over: Partial<MountsRequest>) =>
    (await mountAt(destination, over))?.options.filter(option => option === 'ro' || option === 'rw');
  expect(await access('/sys', {})).toEqual(['ro']);
  expect(await access('/sys/fs/cgroup', {})).toEqual(['ro']);
  expect(await access('/sys', { privileged: true })).toEqual(['rw']);
  expect(await access('/sys/fs/cgroup', { privileged: true })).toEqual(['rw']);
  expect(await access('/sys', { cgroupWritable: true })).toEqual(['ro']);
  expect(await access('/sys/fs/cgroup', { cgroupWritable: true })).toEqual(['rw']);
});

test('a container that mounts the cgroup2 tree of the host keeps its options', async () => {
  const table = [{ ...mountInfo('/sys/fs/cgroup'), fsType: 'cgroup2', superOptions: ['rw', 'nsdelegate'] }];
  const found = await mountAt('/sys/fs/cgroup', {
    hostCgroup2: true,
    lookups: lookups({ mounts: async () => table }),
  });
  expect(found?.options).toContain('nsdelegate');
});

test('files of the pod are read-only with a read-only root, shared memory is not', async () => {
  expect((await mountAt('/etc/hosts', { readonlyRootfs: true }))?.options).toContain('ro');
  expect((await mountAt('/dev/shm', { readonlyRootfs: true }))?.options).toContain('rw');
});

test("with the host's IPC, /dev/shm is the host's", async () => {
  expect((await mountAt('/dev/shm', { hostIpc: true }))?.source).toBe('/dev/shm');
});

test('a mount asked for takes the place of the default one', async () => {
  const over = {
    asked: [mount({ containerPath: '/etc/hosts/', hostPath: '/my/hosts' }), mount({ containerPath: '/sys' })],
  };
  const found = (await build(over)).mounts;
  expect(found.filter(({ destination }) => destination === '/etc/hosts').map(({ source }) => source)).toEqual(
    ['/my/hosts'],
  );
  expect(found.filter(({ destination }) => destination === '/sys').map(({ type }) => type)).toEqual(['bind']);
});

test('a /dev asked for brings its own pts and mqueue', async () => {
  const found = await destinations({ asked: [mount({ containerPath: '/dev', hostPath: '/dev' })] });
  expect(found.filter(destination => destination.startsWith('/dev'))).toEqual(['/dev', '/dev/shm']);
});

test('parents are mounted before what is below them, others stay in their order', async () => {
  const asked = ['/a/b/c', '/z', '/a', '/a/b'].map(containerPath => mount({ containerPath }));
  const found = await destinations({ asked, files: {} });
  expect(found.slice(6)).toEqual(['/z', '/a', '/a/b', '/a/b/c']);
});

test('a linked host path is followed, and one that does not exist is to be made', async () => {
  const { mounts, hostPathsToCreate } = await build({
    asked: [
      mount({ containerPath: '/linked', hostPath: '/srv/link' }),
      mount({ containerPath: '/new', hostPath: '/srv/new/' }),
    ],
    lookups: lookups({
      realPath: async path =>
        path === '/srv/link' ? '/real' : path.startsWith('/srv/new') ? undefined : path,
    }),
  });
  expect(mounts.find(({ destination }) => destination === '/linked')?.source).toBe('/real');
  expect(mounts.find(({ destination }) => destination === '/new')?.source).toBe('/srv/new');
  expect(hostPathsToCreate).toEqual(['/srv/new']);
});

test('propagation needs a host mount that propagates, and sets that of the root', async () => {
  const on = (...optional: string[]) => lookups({ mounts: async () => [mountInfo('/', ...optional)] });
  const toContainer = [mount({ propagation: 'PROPAGATION_HOST_TO_CONTAINER' })];
  const both = [...toContainer, mount({ containerPath: '/both', propagation: 'PROPAGATION_BIDIRECTIONAL' })];

  const slave = await build({ asked: toContainer, lookups: on('master:1') });
  expect(slave.rootfsPropagation).toBe('rslave');
  expect(slave.mounts.find(({ destination }) => destination === '/data')?.options).toEqual([
    'rbind',
    'rslave',
    'rw',
  ]);
  expect((await build({ asked: both, lookups: on('shared:1') })).rootfsPropagation).toBe('rshared');
  expect((await build()).rootfsPropagation).toBeUndefined();

  await expect(build({ asked: toContainer, lookups: on() })).rejects.toThrow(
    'which is not a shared or slave mount',
  );
  await expect(build({ asked: both, lookups: on('master:1') })).rejects.toThrow(
    '"/srv/data" is on /, which is not a shared mount; on the host run "mount --make-rshared /"',
  );
});

test('a recursively read-only mount says so to the runtime', async () => {
  const asked = [mount({ readonly: true, recursiveReadOnly: true })];
  expect((await mountAt('/data', { asked }))?.options).toEqual(['rbind', 'rprivate', 'rro']);
});

const ids = [{ containerId: 0, hostId: 100000, length: 65536 }];
const ociIds = [{ containerID: 0, hostID: 100000, size: 65536 }];

test('in a user namespace a read-only mount says again what its source has and cannot lose', async () => {
  const mounts = async (): Promise<MountInfo[]> => [
    mountInfo('/'),
    { ...mountInfo('/pod'), options: ['rw', 'nosuid', 'nodev', 'relatime'] },
  ];
  const request = { readonlyRootfs: true, lookups: lookups({ mounts }), asked: [mount({ readonly: true })] };
  const mappings = { uids: ociIds, gids: ociIds };
  const options = async (destination: string, over: Partial<MountsRequest>) =>
    (await mountAt(destination, { ...request, ...over }))?.options;
  expect(await options('/etc/hosts', { mappings })).toEqual(['rbind', 'rprivate', 'ro', 'nosuid', 'nodev']);
  expect(await options('/dev/shm', { mappings })).toEqual(['rbind', 'rprivate', 'rw']);
  expect(await options('/data', { mappings })).toEqual(['rbind', 'rprivate', 'ro']);
  expect(await options('/etc/hosts', {})).toEqual(['rbind', 'rprivate', 'ro']);
});

test('a mount with the id mappings of its pod is bound from where its owners are mapped', async () => {
  const asked = [mount({ uidMappings: ids, gidMappings: ids }), mount({ containerPath: '/plain' })];
  const { mounts, idmapped } = await build({ asked, mappings: { uids: ociIds, gids: ociIds } });
  const target = mounts.find(({ destination }) => destination === '/data')?.source ?? '';
  expect(target).toMatch(/^\/idmapped\/abc\/[0-9a-f]{16}$/);
  expect(idmapped).toEqual([{ source: '/srv/data', target }]);
  expect(mounts.find(({ destination }) => destination === '/plain')?.source).toBe('/srv/data');
});

test('the same mount twice is made once', async () => {
  expect((await destinations({ asked: [mount(), mount()] })).filter(path => path === '/data')).toHaveLength(
    1,
  );
});

test('host paths to relabel are named', async () => {
  const { relabel } = await build({
    asked: [mount({ selinuxRelabel: true })],
    files: { hosts: '/pod/hosts' },
    hostIpc: true,
  });
  expect(relabel).toEqual(['/srv/data', '/pod/hosts']);
});

test('volumes of the image get directories of the container, unless a mount or the configuration has it otherwise', async () => {
  const image = { Volumes: { '/var/db': {}, 'relative/': {}, '/data': {}, '/a/../../var/db': {} } };
  const { volumes, mounts } = await build({ image, asked: [mount()] });
  expect(volumes.map(({ destination }) => destination)).toEqual(['/var/db', '/relative']);
  for (const { destination, hostPath } of volumes) {
    expect(hostPath).toMatch(/^\/container\/volumes\/[0-9a-f]{16}$/);
    expect(mounts.find(found => found.destination === destination)?.source).toBe(hostPath);
  }
  expect((await build({ image })).volumes[0]).toEqual(volumes[0]);
  expect((await build({ image, ignoreImageVolumes: true })).volumes).toEqual([]);
});

const imageSpec = {
  image: 'sha256:9',
  annotations: {},
  userSpecifiedImage: '',
  runtimeHandler: '',
  imageRef: '',
};

test('an image mount is listed for the caller, and bound read-only from where the caller has put it', async () => {
  const asked = [
    mount({ containerPath: '/model/', hostPath: '', image: imageSpec, imageSubPath: 'weights' }),
  ];
  expect(imageVolumes('c', asked)).toEqual([{ destination: '/model', image: imageSpec, subPath: 'weights' }]);
  const found = await mountAt('/model', {
    asked,
    imageVolumePaths: new Map([['/model', '/images/9/weights']]),
  });
  expect(found).toMatchObject({ source: '/images/9/weights', options: ['rbind', 'rprivate', 'ro'] });
  await expect(build({ asked })).rejects.toThrow('"sha256:9" is not mounted');
});

test.each<[string, Partial<MountsRequest>, string]>([
  ['a relative container path', { asked: [mount({ containerPath: 'data' })] }, 'is not an absolute path'],
  [
    'a container path that climbs out',
    { asked: [mount({ containerPath: '/a/../../etc' })] },
    'leads out of the container',
  ],
  ['the root of the container', { asked: [mount({ containerPath: '/a/..' })] }, 'would hide the root'],
  ['a relative host path', { asked: [mount({ hostPath: 'srv' })] }, '"srv" is not an absolute path'],
  ['no host path', { asked: [mount({ hostPath: '' })] }, 'is empty, and there is no image'],
  ['two things in one place', { asked: [mount(), mount({ hostPath: '/other' })] }, 'are both mounted there'],
  ['recursive without readonly', { asked: [mount({ recursiveReadOnly: true })] }, 'needs readonly as well'],
  [
    'recursive with propagation',
    {
      asked: [
        mount({ readonly: true, recursiveReadOnly: true, propagation: 'PROPAGATION_HOST_TO_CONTAINER' }),
      ],
      lookups: lookups({ mounts: async () => [mountInfo('/', 'shared:1')] }),
    },
    'needs private propagation',
  ],
  [
    'recursive where the runtime cannot',
    {
      asked: [mount({ readonly: true, recursiveReadOnly: true })],
      features: { recursiveReadOnlyMounts: false },
    },
    'is not supported by this runtime handler',
  ],
  [
    'mapped ids in a pod without a user namespace',
    { asked: [mount({ uidMappings: ids })] },
    'its pod has no user namespace',
  ],
  [
    'other mapped ids than those of the pod',
    { asked: [mount({ uidMappings: ids })], mappings: { uids: ociIds, gids: ociIds } },
    'other mapped ids than those of the user namespace of its pod',
  ],
  [
    'an image and a host path',
    { asked: [mount({ image: imageSpec })] },
    'has both an image and the host path',
  ],
  [
    'a sub path that climbs',
    { asked: [mount({ hostPath: '', image: imageSpec, imageSubPath: 'a/../..' })] },
    'leaves the image',
  ],
  [
    'a host path that cannot be followed',
    { lookups: lookups({ realPath: () => Promise.reject(new Error('ELOOP')) }), asked: [mount()] },
    'cannot be followed: ELOOP',
  ],
])('%s is refused', async (_, over, message) => {
  const refused = build(over);
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toThrow('container "c" (1): mounts[');
  await expect(refused).rejects.toMatchObject({ kind: 'invalidArgument' });
});
