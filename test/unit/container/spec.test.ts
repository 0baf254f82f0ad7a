import { expect, test } from 'vitest';
import {
  buildContainerSpec,
  type ContainerSpecInput,
  type ContainerSpecOptions,
  containerImageVolumes,
  defaultContainerSpecOptions,
} from '../../../src/container/spec.ts';
import {
  containerConfig,
  host,
  lookups,
  mount,
  namespaceOptions,
  resources,
  sandboxConfig,
} from '../oci/fixtures.ts';

type Over = Partial<Omit<ContainerSpecInput, 'sandbox' | 'options'>> & {
  sandbox?: Partial<ContainerSpecInput['sandbox']>;
  options?: Partial<ContainerSpecOptions>;
};

function build({ sandbox, options, ...over }: Over = {}) {
  return buildContainerSpec({
    containerId: 'abc',
    config: containerConfig(),
    image: { name: 'registry.test/server:1', config: {} },
    rootfs: '/run/bundle/rootfs',
    idmapDir: '/run/idmapped/abc',
    volumesDir: '/var/container/volumes',
    host,
    lookups: lookups(),
    ...over,
    sandbox: {
      id: 'pod-id',
      pid: 4711,
      netnsPath: '/var/run/netns/cni-1',
      config: sandboxConfig(),
      files: {},
      selinuxLevel: 's0:c1,c2',
      ...sandbox,
    },
    options: { ...defaultContainerSpecOptions, ...options },
  });
}

function namespaces(spec: Awaited<ReturnType<typeof build>>['spec']): Record<string, string> {
  return Object.fromEntries(spec.linux.namespaces.map(({ type, path }) => [type, path ?? 'new']));
}

const image = { Entrypoint: ['/entry'], Cmd: ['cmd', 'line'] };

test.each([
  [{ command: ['c'], args: ['a'] }, ['c', 'a']],
  [{ command: ['c'], args: [] }, ['c']],
  [{ command: [], args: ['a'] }, ['/entry', 'a']],
  [{ command: [], args: [] }, ['/entry', 'cmd', 'line']],
])('%j over entrypoint and cmd of the image runs %j', async (given, expected) => {
  const { spec } = await build({ config: containerConfig(given), image: { name: 'i', config: image } });
  expect(spec.process.args).toEqual(expected);
});

test('an entrypoint reset to an empty text leaves the cmd', async () => {
  const config = { Entrypoint: [''], Cmd: ['/only'] };
  const { spec } = await build({ config: containerConfig({ command: [] }), image: { name: 'i', config } });
  expect(spec.process.args).toEqual(['/only']);
});

test('without any command the container is refused by name', async () => {
  const config = containerConfig({ command: [] });
  await expect(build({ config })).rejects.toThrow('container "server" (abc): command: no command is given');
  await expect(build({ config })).rejects.toMatchObject({ kind: 'invalidArgument' });
});

test('the environment: defaults, then the image, then the container, each name once', async () => {
  const { spec, warnings } = await build({
    config: containerConfig({
      tty: true,
      envs: [
        { key: 'B', value: Buffer.from('container=1') },
        { key: 'RAW', value: Uint8Array.of(0x61, 0xff) },
      ],
    }),
    image: { name: 'i', config: { Env: ['A=image', 'B=image', 'PATH=/only', 'HOSTNAME'] } },
  });
  expect(spec.process.env).toEqual(['PATH=/only', 'TERM=xterm', 'A=image', 'B=container=1', 'RAW=a\ufffd']);
  expect(warnings).toEqual([expect.stringContaining('envs["RAW"] is not UTF-8')]);
});

test('HOSTNAME is that of the pod, or of the node', async () => {
  expect((await build()).spec.process.env).toContain('HOSTNAME=web-0');
  const onHost = await build({ sandbox: { config: sandboxConfig({ hostname: '' }) } });
  expect(onHost.spec.process.env).toContain('HOSTNAME=node-1');
});

test('the working directory is asked for, or of the image, or the root', async () => {
  const cwd = async (workingDir: string, WorkingDir: string) =>
    (await build({ config: containerConfig({ workingDir }), image: { name: 'i', config: { WorkingDir } } }))
      .spec.process.cwd;
  expect(await cwd('/a/../b', '/c')).toBe('/b');
  expect(await cwd('', 'c')).toBe('/c');
  expect(await cwd('', '')).toBe('/');
  await expect(cwd('a', '')).rejects.toThrow('working_dir: "a" is not an absolute path');
});

test('a container joins network, IPC and UTS of its pod and has the rest for itself', async () => {
  expect(namespaces((await build()).spec)).toEqual({
    mount: 'new',
    network: '/var/run/netns/cni-1',
    uts: '/proc/4711/ns/uts',
    ipc: '/proc/4711/ns/ipc',
    pid: 'new',
    cgroup: 'new',
  });
});

test('a pod on the network, IPC and PIDs of the host leaves its containers there', async () => {
  const onHost = namespaceOptions({ network: 'NODE', ipc: 'NODE', pid: 'NODE' });
  const { spec } = await build({
    config: containerConfig({ context: { namespaceOptions: onHost } }),
    sandbox: { netnsPath: undefined, config: sandboxConfig({ context: { namespaceOptions: onHost } }) },
  });
  expect(namespaces(spec)).toEqual({ mount: 'new', cgroup: 'new' });
});

test('the PID namespace can be that of the pod or of a target container', async () => {
  const pid = async (mode: 'POD' | 'TARGET', targetPid?: number) =>
    namespaces(
      (
        await build({
          targetPid,
          config: containerConfig({
            context: { namespaceOptions: namespaceOptions({ pid: mode, targetId: 't' }) },
          }),
        })
      ).spec,
    ).pid;
  expect(await pid('POD')).toBe('/proc/4711/ns/pid');
  expect(await pid('TARGET', 99)).toBe('/proc/99/ns/pid');
  await expect(pid('TARGET')).rejects.toThrow('target_id: container "t" is not running in this pod');
});

test('a container of a pod with a user namespace joins it, with the same mappings', async () => {
  const usernsOptions = {
    mode: 'POD' as const,
    uids: [{ containerId: 0, hostId: 100000, length: 65536 }],
    gids: [{ containerId: 0, hostId: 200000, length: 65536 }],
  };
  const own = { namespaceOptions: namespaceOptions({ usernsOptions }) };
  const pod = { config: sandboxConfig({ context: own }), usernsPath: '/run/userns' };
  const { spec } = await build({ config: containerConfig({ context: own }), sandbox: pod });
  expect(namespaces(spec).user).toBe('/run/userns');
  expect(spec.linux.uidMappings).toEqual([{ containerID: 0, hostID: 100000, size: 65536 }]);
  expect(spec.linux.gidMappings).toEqual([{ containerID: 0, hostID: 200000, size: 65536 }]);
  await expect(build({ sandbox: pod })).rejects.toThrow('userns_options: differs from that of the pod');
});

test('on cgroup v1, and when privileged, there is no cgroup namespace', async () => {
  const v1 = await build({
    host: { ...host, cgroup: { version: 1, swap: false, hugetlb: false, cpu: true } },
  });
  expect(namespaces(v1.spec)).not.toHaveProperty('cgroup');
  const privileged = await build({
    config: containerConfig({ context: { privileged: true } }),
    sandbox: { config: sandboxConfig({ context: { privileged: true } }) },
  });
  expect(namespaces(privileged.spec)).not.toHaveProperty('cgroup');
});

test('masked and read-only paths are as given, and cleared for privileged containers', async () => {
  const context = { maskedPaths: ['/proc/kcore'], readonlyPaths: ['/proc/sys'] };
  const { linux } = (await build({ config: containerConfig({ context }) })).spec;
  expect([linux.maskedPaths, linux.readonlyPaths]).toEqual([['/proc/kcore'], ['/proc/sys']]);
  const privileged = await build({
    config: containerConfig({ context: { ...context, privileged: true } }),
    sandbox: { config: sandboxConfig({ context: { privileged: true } }) },
  });
  expect([privileged.spec.linux.maskedPaths, privileged.spec.linux.readonlyPaths]).toEqual([[], []]);
});

test('a privileged container in a pod that is not is refused', async () => {
  const config = containerConfig({ context: { privileged: true } });
  await expect(build({ config })).rejects.toThrow('security_context.privileged: its pod is not privileged');
});

test('the seccomp profile follows the capabilities of the container', async () => {
  const calls = async (add: string[]) =>
    (
      await build({
        config: containerConfig({
          context: {
            seccomp: { profileType: 'RuntimeDefault', localhostRef: '' },
            capabilities: { addCapabilities: add, dropCapabilities: [], addAmbientCapabilities: [] },
          },
        }),
      })
    ).spec.linux.seccomp?.syscalls?.flatMap(({ names }) => names);
  expect(await calls([])).not.toContain('reboot');
  expect(await calls(['SYS_BOOT'])).toContain('reboot');
});

test('limits, oom_score_adj, pids and the cgroup of the pod', async () => {
  const { spec } = await build({
    config: containerConfig({
      limits: { memoryLimitInBytes: '1024', oomScoreAdj: '-5', hugepageLimits: [] },
    }),
    options: { pidsLimit: 100 },
  });
  expect(spec.linux.resources).toEqual({
    devices: [{ allow: false, access: 'rwm' }],
    memory: { limit: 1024, swap: 1024 },
    pids: { limit: 100 },
  });
  expect(spec.process.oomScoreAdj).toBe(-5);
  expect(spec.linux.cgroupsPath).toBe('/kubepods/pod1/abc');
});

test('without resources oom_score_adj is inherited', async () => {
  expect((await build()).spec.process).not.toHaveProperty('oomScoreAdj');
});

test('annotations identify the container, and those the handler lets through cannot lie about it', async () => {
  const { spec } = await build({
    config: containerConfig({
      annotations: { 'io.kubernetes.cri.sandbox-id': 'forged', 'c.x/y': '1', hidden: '2' },
      image: {
        image: 'sha256:1',
        annotations: {},
        userSpecifiedImage: 'server:latest',
        runtimeHandler: '',
        imageRef: '',
      },
    }),
    sandbox: { config: sandboxConfig({ annotations: { 'p.x': '3' } }) },
    options: { podAnnotations: ['p.*'], containerAnnotations: ['c.*/*', 'io.kubernetes.cri.*'] },
  });
  expect(spec.annotations).toEqual({
    'p.x': '3',
    'c.x/y': '1',
    'io.kubernetes.cri.container-type': 'container',
    'io.kubernetes.cri.sandbox-id': 'pod-id',
    'io.kubernetes.cri.sandbox-name': 'web',
    'io.kubernetes.cri.sandbox-namespace': 'shop',
    'io.kubernetes.cri.sandbox-uid': 'uid-1',
    'io.kubernetes.cri.container-name': 'server',
    'io.kubernetes.cri.image-name': 'server:latest',
  });
});

test('SELinux labels are set where the host has SELinux and the configuration wants it', async () => {
  const selinuxOptions = { user: '', role: '', type: '', level: 's0:c7,c9' };
  const config = containerConfig({ context: { selinuxOptions }, mounts: [mount({ selinuxRelabel: true })] });
  const labelled = await build({
    config,
    host: { ...host, selinuxEnabled: true },
    options: { selinux: true },
  });
  expect(labelled.spec.process.selinuxLabel).toBe('system_u:system_r:container_t:s0:c7,c9');
  expect(labelled.spec.linux.mountLabel).toBe('system_u:object_r:container_file_t:s0:c7,c9');
  expect(labelled.selinux?.relabel).toEqual(['/srv/data']);
  const ofPod = await build({ host: { ...host, selinuxEnabled: true }, options: { selinux: true } });
  expect(ofPod.spec.process.selinuxLabel).toBe('system_u:system_r:container_t:s0:c1,c2');
  const plain = await build({ config, options: { selinux: true } });
  expect(plain.selinux).toBeUndefined();
  expect(plain.spec.process).not.toHaveProperty('selinuxLabel');
});

test('the user is looked up in the root file system and reported', async () => {
  const { spec, user } = await build({
    config: containerConfig({ context: { runAsUsername: 'alice' } }),
    lookups: lookups({
      readInRoot: async (root, file) =>
        root === '/run/bundle/rootfs' && file === 'etc/passwd' ? 'alice:x:1000:1001::/:\n' : undefined,
    }),
  });
  expect(user).toEqual({ uid: 1000, gid: 1001, supplementalGroups: [1001] });
  expect(spec.process.user).toEqual({ uid: 1000, gid: 1001, additionalGids: [1001] });
});

test('an /etc/passwd that cannot be read is the fault of the image, by name', async () => {
  const broken = lookups({ readInRoot: () => Promise.reject(new Error('is not a regular file')) });
  await expect(build({ lookups: broken })).rejects.toThrow(
    'container "server" (abc): /etc/passwd of the image: cannot be read: is not a regular file',
  );
});

test('image mounts are listed before and after', async () => {
  const spec = {
    image: 'sha256:9',
    annotations: {},
    userSpecifiedImage: '',
    runtimeHandler: '',
    imageRef: '',
  };
  const config = containerConfig({ mounts: [mount({ hostPath: '', containerPath: '/model', image: spec })] });
  const listed = containerImageVolumes({ containerId: 'abc', config });
  expect(listed).toEqual([{ destination: '/model', image: spec, subPath: '' }]);
  const built = await build({ config, imageVolumePaths: new Map([['/model', '/mnt/9']]) });
  expect(built.imageVolumes).toEqual(listed);
});

test('building does not change its input', async () => {
  const config = containerConfig({ limits: resources({ cpuShares: '5' }), mounts: [mount()] });
  const before = structuredClone(config);
  await build({ config });
  expect(config).toEqual(before);
});
