// What of a handler's base_runtime_spec reaches its containers, and what the CRI, the image and the pod override.
import { expect, test } from 'vitest';
import { buildContainerSpec, defaultContainerSpecOptions } from '../../../src/container/spec.ts';
import type { ContainerConfig, LinuxContainerSecurityContext } from '../../../src/cri-api/types.ts';
import { parseBaseSpec } from '../../../src/oci/spec/base-spec.ts';
import type { ImageConfig } from '../../../src/oci/spec/process.ts';
import { containerConfig, host, lookups, mount, sandboxConfig } from './fixtures.ts';

interface Over {
  config?: Partial<ContainerConfig> & { context?: Partial<LinuxContainerSecurityContext> };
  image?: ImageConfig;
  podPrivileged?: boolean;
}

async function built(base: object, { config, image = {}, podPrivileged = false }: Over = {}) {
  const { spec } = await buildContainerSpec({
    containerId: 'abc',
    config: containerConfig({ command: ['run'], ...config }),
    image: { name: 'i', config: image },
    rootfs: '/rootfs',
    idmapDir: '/idmapped',
    volumesDir: '/volumes',
    host,
    lookups: lookups(),
    sandbox: {
      id: 'pod',
      pid: 7,
      netnsPath: '/netns',
      config: sandboxConfig({ context: { privileged: podPrivileged } }),
      files: { hosts: '/pod/hosts' },
      selinuxLevel: '',
    },
    options: {
      ...defaultContainerSpecOptions,
      baseSpec: parseBaseSpec(JSON.stringify({ ociVersion: '1.1.0', ...base }), '/etc/base.json'),
    },
  });
  return spec;
}

test('rlimits, hooks, sysctls and what the runtime alone understands come from the file', async () => {
  const hook = { path: '/usr/bin/hook', args: ['hook', '--all'] };
  const spec = await built({
    process: {
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 64, hard: 128 }],
      scheduler: { policy: 'SCHED_BATCH' },
    },
    hooks: { createRuntime: [hook] },
    linux: { sysctl: { 'net.core.somaxconn': '7' }, intelRdt: { closID: 'low' } },
  });
  expect(spec).toMatchObject({
    ociVersion: '1.1.0',
    process: {
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 64, hard: 128 }],
      scheduler: { policy: 'SCHED_BATCH' },
      args: ['run'],
    },
    hooks: { createRuntime: [hook] },
    linux: { sysctl: { 'net.core.somaxconn': '7' }, intelRdt: { closID: 'low' } },
  });
});

test('the environment is both, and the image and the container win', async () => {
  const spec = await built(
    { process: { env: ['PROXY=http://proxy', 'A=file', 'B=file', 'PATH=/file'] } },
    {
      image: { Env: ['A=image'] },
      config: { envs: [{ key: 'B', value: Buffer.from('container') }] },
    },
  );
  expect(spec.process.env).toEqual(expect.arrayContaining(['PROXY=http://proxy', 'A=image', 'B=container']));
  expect(spec.process.env.filter(entry => /^(A|B|PATH)=/.test(entry))).toHaveLength(3);
  expect(spec.process.env).not.toContain('PATH=/file');
});

test('the file’s capabilities are where adding and dropping starts', async () => {
  const base = { process: { capabilities: { bounding: ['CAP_KILL', 'CAP_CHOWN'] } } };
  const capabilities = {
    addCapabilities: ['NET_ADMIN'],
    dropCapabilities: ['CHOWN'],
    addAmbientCapabilities: [],
  };
  expect((await built(base)).process.capabilities.bounding).toEqual(['CAP_CHOWN', 'CAP_KILL']);
  const changed = await built(base, { config: { context: { capabilities } } });
  expect(changed.process.capabilities.bounding).toEqual(['CAP_KILL', 'CAP_NET_ADMIN']);
});

test('a working directory of the file counts when neither container nor image has one', async () => {
  const base = { process: { cwd: '/file' } };
  expect((await built(base)).process.cwd).toBe('/file');
  expect((await built(base, { image: { WorkingDir: '/image' } })).process.cwd).toBe('/image');
  expect((await built(base, { config: { workingDir: '/asked' } })).process.cwd).toBe('/asked');
});

test('mounts: the file’s options hold for kernel file systems, what is bound wins, /run and /sys are ours', async () => {
  const spec = await built(
    {
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc', options: ['hidepid=2'] },
        { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['rw'] },
        { destination: '/run', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/data', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/opt/tools', source: '/srv/tools', options: ['rbind', 'ro'] },
        { destination: '/etc/hosts', source: '/etc/hosts', options: ['rbind'] },
      ],
    },
    { config: { mounts: [mount({ containerPath: '/data', hostPath: '/host/data' })] } },
  );
  const at = (destination: string) => spec.mounts.filter(one => one.destination === destination);
  expect(at('/proc')).toEqual([
    { destination: '/proc', type: 'proc', source: 'proc', options: ['hidepid=2'] },
  ]);
  expect(at('/sys')[0]?.options).toContain('ro');
  expect(at('/run')).toEqual([]);
  expect(at('/data').map(({ source }) => source)).toEqual(['/host/data']);
  expect(at('/opt/tools').map(({ source }) => source)).toEqual(['/srv/tools']);
  expect(at('/etc/hosts').map(({ source }) => source)).toEqual(['/pod/hosts']);
});

test('the file’s seccomp filter and AppArmor profile hold where the container asks for none, not when it is privileged', async () => {
  const seccomp = { defaultAction: 'SCMP_ACT_LOG' };
  const base = { process: { apparmorProfile: 'mine' }, linux: { seccomp } };
  expect((await built(base)).linux.seccomp).toEqual(seccomp);
  expect((await built(base)).process.apparmorProfile).toBe('mine');
  const asked = { profileType: 'RuntimeDefault', localhostRef: '' } as const;
  const own = await built(base, { config: { context: { seccomp: asked } } });
  expect(own.linux.seccomp?.defaultAction).toBe('SCMP_ACT_ERRNO');
  const privileged = await built(base, { config: { context: { privileged: true } }, podPrivileged: true });
  expect(privileged.linux.seccomp).toBeUndefined();
  expect(privileged.process.apparmorProfile).toBeUndefined();
});

test('namespaces, names, paths and root are the pod’s and the container’s', async () => {
  const spec = await built({
    hostname: 'file',
    root: { path: 'elsewhere' },
    annotations: { site: 'a', 'io.kubernetes.cri.container-type': 'file' },
    linux: {
      cgroupsPath: '/file',
      maskedPaths: ['/proc/keys'],
      namespaces: [{ type: 'network' }, { type: 'user' }, { type: 'time' }],
      resources: {
        pids: { limit: 7 },
        devices: [{ allow: true, type: 'c', major: 10, minor: 229, access: 'rw' }],
      },
    },
  });
  expect(spec.hostname).toBeUndefined();
  expect(spec.root.path).toBe('/rootfs');
  expect(spec.annotations).toMatchObject({ site: 'a', 'io.kubernetes.cri.container-type': 'container' });
  expect(spec.linux.cgroupsPath).toBe('/kubepods/pod1/abc');
  expect(spec.linux.maskedPaths).toEqual([]);
  const types = spec.linux.namespaces.map(({ type, path }) => [type, path]);
  expect(types).toContainEqual(['network', '/netns']);
  expect(types.map(([type]) => type)).not.toContain('user');
  expect(types).toContainEqual(['time', undefined]);
  expect(spec.linux.resources.pids).toEqual({ limit: 7 });
  expect(spec.linux.resources.devices).toEqual([
    { allow: false, access: 'rwm' },
    { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
  ]);
});

test('a file that is no runtime spec is refused by name', () => {
  expect(() => parseBaseSpec('{', '/etc/base.json')).toThrow('/etc/base.json is no OCI runtime spec');
  expect(() => parseBaseSpec('{"ociVersion":"1.0.2","mounts":{}}', '/etc/base.json')).toThrow('mounts');
});
