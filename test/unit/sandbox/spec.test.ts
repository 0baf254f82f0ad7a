import { expect, test } from 'vitest';
import {
  buildSandboxSpec,
  builtInPauseArgs,
  defaultSandboxSpecOptions,
  type SandboxSpecInput,
} from '../../../src/sandbox/spec.ts';
import { host, lookups, namespaceOptions, resources, sandboxConfig } from '../oci/fixtures.ts';

function build(over: Partial<SandboxSpecInput> = {}) {
  return buildSandboxSpec({
    sandboxId: 'pod-id',
    selinuxLevel: 's0:c3,c4',
    config: sandboxConfig(),
    netnsPath: '/var/run/netns/cni-1',
    rootfs: '/run/pause',
    pause: { args: builtInPauseArgs, native: true },
    host,
    options: defaultSandboxSpecOptions,
    lookups: lookups(),
    ...over,
  });
}

test('the pause container is nobody on a read-only root with no capability and two mounts', async () => {
  const { spec, warnings } = await build();
  expect(spec.process).toMatchObject({
    args: ['/pause', '-P'],
    user: { uid: 65535, gid: 65535 },
    noNewPrivileges: true,
    oomScoreAdj: -998,
    capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
  });
  expect(spec.root).toEqual({ path: '/run/pause', readonly: true });
  expect(spec.mounts.map(({ destination }) => destination)).toEqual(['/proc', '/dev']);
  expect(spec.linux.readonlyPaths).toContain('/proc/sys');
  expect(spec.linux.resources.cpu?.shares).toBe(2);
  expect(spec.linux.cgroupsPath).toBe('/kubepods/pod1/pod-id');
  expect(warnings).toEqual([]);
});

test('it holds the namespaces of the pod', async () => {
  const { spec } = await build();
  expect(spec.hostname).toBe('web-0');
  expect(spec.linux.namespaces).toEqual([
    { type: 'mount' },
    { type: 'network', path: '/var/run/netns/cni-1' },
    { type: 'uts' },
    { type: 'ipc' },
    { type: 'pid' },
  ]);
});

test("a pod on the host's namespaces makes none, and leaves the host's name alone", async () => {
  const { spec } = await build({
    netnsPath: undefined,
    config: sandboxConfig({
      context: { namespaceOptions: namespaceOptions({ network: 'NODE', pid: 'NODE', ipc: 'NODE' }) },
    }),
  });
  expect(spec.linux.namespaces).toEqual([{ type: 'mount' }]);
  expect(spec).not.toHaveProperty('hostname');
  expect(spec.linux).not.toHaveProperty('sysctl');
});

const usernsOptions = (length: number) => ({
  mode: 'POD' as const,
  uids: [{ containerId: 0, hostId: 100000, length }],
  gids: [{ containerId: 0, hostId: 100000, length }],
});

test('a user namespace is made, or joined where the network namespace has one', async () => {
  const config = sandboxConfig({
    context: { namespaceOptions: namespaceOptions({ usernsOptions: usernsOptions(65536) }) },
  });
  const made = (await build({ config, netnsPath: undefined })).spec;
  expect(made.linux.namespaces).toContainEqual({ type: 'user' });
  expect(made.linux.uidMappings).toEqual([{ containerID: 0, hostID: 100000, size: 65536 }]);
  expect(made.process.user.uid).toBe(65535);
  const joined = (await build({ config, usernsPath: '/run/userns' })).spec;
  expect(joined.linux.namespaces).toContainEqual({ type: 'user', path: '/run/userns' });
});

test('a network namespace that does not belong to the user namespace of the pod is refused', async () => {
  const config = sandboxConfig({
    context: { namespaceOptions: namespaceOptions({ usernsOptions: usernsOptions(65536) }) },
  });
  await expect(build({ config })).rejects.toThrow("does not belong to the pod's user namespace");
});

test('in a user namespace without nobody, pause is its root', async () => {
  const config = sandboxConfig({
    context: { namespaceOptions: namespaceOptions({ usernsOptions: usernsOptions(1000) }) },
  });
  expect((await build({ config, netnsPath: undefined })).spec.process.user).toEqual({
    uid: 0,
    gid: 0,
    additionalGids: [0],
  });
});

const whole = { containerId: 0, hostId: 100_000, length: 65_536 };
const rootless = { containerId: 1, hostId: 100_000, length: 65_536 };

test.each([
  [{ mode: 'POD' as const, uids: [], gids: [] }, 'needs one mapping'],
  [
    { mode: 'POD' as const, uids: [rootless], gids: [whole] },
    'uids: id 0 of the container, root, is not mapped',
  ],
  [
    { mode: 'POD' as const, uids: [whole], gids: [rootless] },
    'gids: id 0 of the container, root, is not mapped',
  ],
  [{ ...usernsOptions(0) }, 'length 0 is not positive'],
  [{ ...usernsOptions(5), mode: 'NODE' as const }, 'mode NODE has no mappings'],
  [{ ...usernsOptions(5), mode: 'CONTAINER' as const }, 'CONTAINER is not supported'],
])('the user namespace %j is refused', async (options, message) => {
  const config = sandboxConfig({
    context: { namespaceOptions: namespaceOptions({ usernsOptions: options }) },
  });
  await expect(build({ config })).rejects.toThrow(message);
});

test('the user can be set', async () => {
  const context = { runAsUser: { value: '7' }, runAsGroup: { value: '8' }, supplementalGroups: ['9'] };
  const { spec } = await build({ config: sandboxConfig({ context }) });
  expect(spec.process.user).toEqual({ uid: 7, gid: 8, additionalGids: [8, 9] });
});

test('a group without a user is refused', async () => {
  const config = sandboxConfig({ context: { runAsGroup: { value: '8' } } });
  await expect(build({ config })).rejects.toThrow('sandbox "shop/web" (pod-id): run_as_group');
});

test('sysctls of the pod are joined with those of the node', async () => {
  const linux = {
    cgroupParent: '',
    sysctls: { 'net.core.somaxconn': '9' },
    overhead: null,
    resources: null,
    securityContext: null,
  };
  const { spec } = await build({ config: sandboxConfig({ linux }) });
  expect(spec.linux.sysctl).toEqual({
    'net.core.somaxconn': '9',
    'net.ipv4.ip_unprivileged_port_start': '0',
    'net.ipv4.ping_group_range': '0 2147483647',
  });
});

test('the seccomp filter of the built-in pause is for the native ABI, of an image for all', async () => {
  const config = sandboxConfig({ context: { seccomp: { profileType: 'RuntimeDefault', localhostRef: '' } } });
  expect((await build({ config })).spec.linux.seccomp?.architectures).toHaveLength(1);
  const fromImage = await build({ config, pause: { args: ['/pause'], native: false } });
  expect(fromImage.spec.linux.seccomp?.architectures).toHaveLength(3);
});

test('where the score cannot be lowered the pod runs all the same, and it is said', async () => {
  const { spec, warnings } = await build({ host: { ...host, hasCapSysResource: false } });
  expect(spec.process.oomScoreAdj).toBe(0);
  expect(warnings).toEqual([expect.stringContaining('CAP_SYS_RESOURCE')]);
});

test('annotations identify the pod and its size', async () => {
  const linux = {
    cgroupParent: '',
    sysctls: {},
    overhead: null,
    resources: resources({ cpuShares: '4' }),
    securityContext: null,
  };
  const { spec } = await build({
    config: sandboxConfig({ linux, annotations: { 'runc.a': '1', b: '2' } }),
    options: { ...defaultSandboxSpecOptions, podAnnotations: ['runc.*'] },
  });
  expect(spec.annotations).toEqual({
    'runc.a': '1',
    'io.kubernetes.cri.container-type': 'sandbox',
    'io.kubernetes.cri.sandbox-id': 'pod-id',
    'io.kubernetes.cri.sandbox-name': 'web',
    'io.kubernetes.cri.sandbox-namespace': 'shop',
    'io.kubernetes.cri.sandbox-uid': 'uid-1',
    'io.kubernetes.cri.sandbox-log-directory': '/var/log/pods/web',
    'io.kubernetes.cri.podsandbox.image-name': '',
    'io.kubernetes.cri.sandbox-cpu-period': '0',
    'io.kubernetes.cri.sandbox-cpu-quota': '0',
    'io.kubernetes.cri.sandbox-cpu-shares': '4',
    'io.kubernetes.cri.sandbox-memory': '0',
  });
});

test('a hostname the kernel cannot hold is refused', async () => {
  const config = sandboxConfig({ hostname: 'x'.repeat(65) });
  await expect(build({ config })).rejects.toThrow('hostname: ');
});
