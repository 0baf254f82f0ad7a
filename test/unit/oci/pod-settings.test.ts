// Small rules that pods and containers share: sysctls, cgroup paths, clamped limits, SELinux, AppArmor.
import { expect, test } from 'vitest';
import { buildApparmor } from '../../../src/oci/spec/apparmor.ts';
import { buildCgroupsPath } from '../../../src/oci/spec/cgroups-path.ts';
import { buildOomScoreAdj, clampRlimits } from '../../../src/oci/spec/limits.ts';
import { type ClassRequest, refuseResourceClasses } from '../../../src/oci/spec/resource-classes.ts';
import { buildSelinuxLabels, freeLevel } from '../../../src/oci/spec/selinux.ts';
import { buildSysctls, type SysctlRequest } from '../../../src/oci/spec/sysctls.ts';
import { host, lookups, namespaceOptions } from './fixtures.ts';

const subject = 'sandbox "shop/web" (1)';

function sysctls(asked: Record<string, string>, over: Partial<SysctlRequest> = {}) {
  return buildSysctls({
    subject,
    asked,
    namespaces: namespaceOptions(),
    unprivilegedPorts: true,
    unprivilegedIcmp: true,
    inUserNamespace: false,
    ...over,
  });
}

test('a pod with its own network may bind low ports and ping, unless it says otherwise', () => {
  expect(sysctls({ 'net.ipv4.ip_unprivileged_port_start': '80' })).toEqual({
    'net.ipv4.ip_unprivileged_port_start': '80',
    'net.ipv4.ping_group_range': '0 2147483647',
  });
  expect(sysctls({}, { inUserNamespace: true })).toEqual({ 'net.ipv4.ip_unprivileged_port_start': '0' });
  expect(sysctls({}, { namespaces: namespaceOptions({ network: 'NODE' }) })).toEqual({});
  expect(sysctls({}, { unprivilegedPorts: false, unprivilegedIcmp: false })).toEqual({});
});

test.each(['net.core.somaxconn', 'net/ipv4/conf/eth0.100/rp_filter', 'kernel.shmmax', 'fs.mqueue.msg_max'])(
  'the namespaced sysctl %s is passed on',
  name => {
    expect(sysctls({ [name]: '1' })).toMatchObject({ [name]: '1' });
  },
);

test.each<[string, Partial<SysctlRequest>, string]>([
  ['kernel.panic', {}, 'would change the whole host'],
  ['vm.swappiness', {}, 'would change the whole host'],
  ['kernel/../net.x', {}, 'is not the name of a sysctl'],
  ['net/../kernel/core_pattern', {}, 'is not the name of a sysctl'],
  ['net..x', {}, 'is not the name of a sysctl'],
  ['net.core.somaxconn', { namespaces: namespaceOptions({ network: 'NODE' }) }, "uses the host's network"],
  ['kernel.sem', { namespaces: namespaceOptions({ ipc: 'NODE' }) }, "uses the host's IPC"],
])('the sysctl %s is refused', (name, over, message) => {
  expect(() => sysctls({ [name]: '1' }, over)).toThrow(`${subject}: sysctls["${name}"]: `);
  expect(() => sysctls({ [name]: '1' }, over)).toThrow(message);
});

test.each([
  ['/kubepods/pod1', false, '/kubepods/pod1/abc'],
  ['kubepods', false, '/kubepods/abc'],
  ['', false, '/cri-ts/abc'],
  ['/kubepods.slice/kubepods-pod1.slice', true, 'kubepods-pod1.slice:cri-ts:abc'],
  ['', true, 'system.slice:cri-ts:abc'],
])('under the cgroup parent "%s" (systemd: %s) the path is %s', (parent, systemd, expected) => {
  expect(buildCgroupsPath({ subject, id: 'abc', parent, systemd })).toBe(expected);
});

test('a cgroup parent of the other driver is refused with the way out', () => {
  const path = (parent: string, systemd: boolean) => () =>
    buildCgroupsPath({ subject, id: 'abc', parent, systemd });
  expect(path('/kubepods/pod1', true)).toThrow('SystemdCgroup = false');
  expect(path('/kubepods.slice', false)).toThrow('SystemdCgroup = true');
  expect(path('/a/../../b', false)).toThrow('has ".." in it');
});

function oom(wanted: number, { restrict = false, hasCapSysResource = true, own = 0 } = {}) {
  const warnings: string[] = [];
  const score = buildOomScoreAdj({
    subject,
    wanted,
    restrict,
    host: { oomScoreAdj: own, hasCapSysResource },
    warn: message => warnings.push(message),
  });
  return { score, warned: warnings.length > 0 };
}

test('oom_score_adj is lowered below that of the daemon only when allowed and possible', () => {
  expect(oom(-998)).toEqual({ score: -998, warned: false });
  expect(oom(-998, { restrict: true, own: -5 })).toEqual({ score: -5, warned: false });
  expect(oom(-998, { hasCapSysResource: false, own: -5 })).toEqual({ score: -5, warned: true });
  expect(oom(500, { restrict: true, hasCapSysResource: false })).toEqual({ score: 500, warned: false });
  expect(() => oom(1001)).toThrow('1001 is out of range');
});

test('rlimits are clamped to the hard limit of the daemon where it cannot be raised', () => {
  const warnings: string[] = [];
  const clamp = (hasCapSysResource: boolean) =>
    clampRlimits(
      subject,
      [
        { type: 'RLIMIT_NOFILE', soft: 9000, hard: 9000 },
        { type: 'RLIMIT_CORE', soft: 5, hard: 3 },
      ],
      { ...host, hasCapSysResource },
      message => warnings.push(message),
    );
  expect(clamp(true)).toEqual([
    { type: 'RLIMIT_NOFILE', soft: 9000, hard: 9000 },
    { type: 'RLIMIT_CORE', soft: 3, hard: 3 },
  ]);
  expect(warnings).toEqual([]);
  expect(clamp(false)[0]).toEqual({ type: 'RLIMIT_NOFILE', soft: 4096, hard: 4096 });
  expect(warnings).toEqual([expect.stringContaining('RLIMIT_NOFILE 4096 instead of 9000')]);
});

test('SELinux labels have what was asked for, and else the container policy with the level of the pod', () => {
  const build = (level: string) =>
    buildSelinuxLabels({
      subject,
      asked: { user: '', role: '', type: 'spc_t', level },
      podLevel: 's0:c5,c6',
    });
  expect(build('s0:c1,c2')).toEqual({
    process: 'system_u:system_r:spc_t:s0:c1,c2',
    mount: 'system_u:object_r:container_file_t:s0:c1,c2',
  });
  expect(build('')).toEqual({
    process: 'system_u:system_r:spc_t:s0:c5,c6',
    mount: 'system_u:object_r:container_file_t:s0:c5,c6',
  });
  expect(() => build('top secret')).toThrow('is not a level');
});

test('each pod gets two categories below the range that no other pod has, until there are no more', () => {
  const taken = new Set<string>();
  for (let pod = 0; pod < 10; pod++) {
    const level = freeLevel(`pod-${pod}`, 5, taken);
    const [first = Number.NaN, second = Number.NaN] = (/^s0:c(\d+),c(\d+)$/.exec(level) ?? [])
      .slice(1)
      .map(Number);
    expect(first).toBeGreaterThanOrEqual(0);
    expect(second).toBeGreaterThan(first);
    expect(second).toBeLessThan(5);
    expect(taken.has(level)).toBe(false);
    taken.add(level);
  }
  expect(taken.has(freeLevel('one-more', 5, taken))).toBe(true);
  expect(freeLevel('pod', 2, new Set())).toBe('s0:c0,c1');
  expect(freeLevel('pod', 1024, new Set())).toBe(freeLevel('pod', 1024, new Set()));
});

function classes(over: Partial<ClassRequest>) {
  const warnings: string[] = [];
  refuseResourceClasses({
    subject,
    containerName: 'server',
    annotations: {},
    podAnnotations: {},
    ignoreBlockio: false,
    ignoreRdt: false,
    warn: message => warnings.push(message),
    ...over,
  });
  return warnings;
}

test.each<[string, Partial<ClassRequest>]>([
  ['blockio', { annotations: { 'io.kubernetes.cri.blockio-class': 'slow' } }],
  ['blockio', { podAnnotations: { 'blockio.resources.beta.kubernetes.io/pod': 'slow' } }],
  ['rdt', { annotations: { 'io.kubernetes.cri.rdt-class': 'gold' } }],
  ['rdt', { podAnnotations: { 'rdt.resources.beta.kubernetes.io/container.server': 'gold' } }],
])('a %s class (%j) is refused, or left out where the configuration says so', (kind, asked) => {
  expect(() => classes(asked)).toThrow(`ignore_${kind}_not_enabled_errors = true`);
  expect(classes({ ...asked, ignoreBlockio: true, ignoreRdt: true })).toEqual([
    expect.stringContaining('has no effect'),
  ]);
});

test('a class of another container, or an empty one, asks for nothing', () => {
  expect(classes({ podAnnotations: { 'rdt.resources.beta.kubernetes.io/container.other': 'gold' } })).toEqual(
    [],
  );
  const podAnnotations = { 'rdt.resources.beta.kubernetes.io/pod': 'gold' };
  expect(classes({ annotations: { 'io.kubernetes.cri.rdt-class': '' }, podAnnotations })).toEqual([]);
});

function apparmor(over: Partial<Parameters<typeof buildApparmor>[0]>) {
  return buildApparmor({
    subject,
    asked: null,
    legacyProfile: '',
    privileged: false,
    enabled: true,
    defaultProfile: 'cri-ts-default',
    lookups: lookups({ readText: async () => 'other (enforce)\nmine (complain)\n' }),
    ...over,
  });
}

test('AppArmor: the default profile, one that is loaded, or none', async () => {
  expect(await apparmor({})).toBe('cri-ts-default');
  expect(await apparmor({ privileged: true })).toBeUndefined();
  expect(await apparmor({ legacyProfile: 'localhost/mine' })).toBe('mine');
  expect(
    await apparmor({ asked: { profileType: 'Localhost', localhostRef: 'mine' }, privileged: true }),
  ).toBe('mine');
  expect(await apparmor({ legacyProfile: 'unconfined' })).toBeUndefined();
  expect(await apparmor({ enabled: false })).toBeUndefined();
});

test('AppArmor: a profile that is not loaded, or any without AppArmor, is refused', async () => {
  await expect(apparmor({ legacyProfile: 'localhost/min' })).rejects.toThrow(
    'no AppArmor profile "min" is loaded',
  );
  await expect(apparmor({ legacyProfile: 'runtime/default', enabled: false })).rejects.toThrow(
    'not available on this host',
  );
  await expect(apparmor({ legacyProfile: 'runtime/default', defaultProfile: undefined })).rejects.toThrow(
    'apt-get install apparmor',
  );
  expect(await apparmor({ defaultProfile: undefined })).toBeUndefined();
  await expect(apparmor({ legacyProfile: 'whatever' })).rejects.toThrow('is not runtime/default');
});
