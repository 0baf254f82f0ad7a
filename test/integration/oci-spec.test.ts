// Specs of the builders run by the real runc: what a process inside sees is what was asked for. Needs root,
// runc, busybox and catatonit. One pause container holds the namespaces, as in a pod; each test runs one
// container beside it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  buildContainerSpec,
  type ContainerSpecOptions,
  defaultContainerSpecOptions,
} from '../../src/container/spec.ts';
import type { ContainerConfig, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { gatherHostFacts, type HostFacts } from '../../src/host/facts.ts';
import { run } from '../../src/host/process.ts';
import type { ImageConfig } from '../../src/oci/spec/process.ts';
import { updateDocument } from '../../src/oci/spec/resources.ts';
import type { RuntimeSpec } from '../../src/oci/spec/types.ts';
import { buildSandboxSpec, builtInPauseArgs, defaultSandboxSpecOptions } from '../../src/sandbox/spec.ts';
import { containerConfig, mount, namespaceOptions, sandboxConfig } from '../unit/oci/fixtures.ts';

const dir = mkdtempSync(path.join(tmpdir(), 'cri-ts-oci-spec-'));
const rootfs = path.join(dir, 'rootfs');
const cgroupParent = `/${path.basename(dir)}`;
const pod = sandboxConfig({
  hostname: 'pod-host',
  linux: {
    cgroupParent,
    sysctls: { 'net.ipv4.ip_forward': '1' },
    overhead: null,
    resources: null,
    securityContext: null,
  },
  context: { privileged: true },
});
const image: ImageConfig = { Env: ['FROM_IMAGE=yes', 'BOTH=image'], WorkingDir: '/srv', User: '' };

interface Pause {
  id: string;
  pid: number;
}

let host: HostFacts;
let pause: Pause;

beforeAll(async () => {
  // Root of a user namespace is nobody here, and must be able to pass through.
  chmodSync(dir, 0o755);
  for (const inside of ['bin', 'proc', 'sys', 'dev', 'etc', 'srv', 'tmp']) {
    mkdirSync(path.join(rootfs, inside), { recursive: true });
  }
  copyFileSync('/bin/busybox', path.join(rootfs, 'bin/busybox'));
  for (const tool of [
    'sh',
    'cat',
    'id',
    'grep',
    'ls',
    'touch',
    'env',
    'hostname',
    'pwd',
    'mount',
    'sleep',
    'unshare',
    'wc',
  ]) {
    symlinkSync('busybox', path.join(rootfs, 'bin', tool));
  }
  writeFileSync(path.join(rootfs, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n');
  writeFileSync(path.join(rootfs, 'etc/group'), 'root:x:0:\nalice:x:1001:\nwheel:x:2000:alice\n');
  const pauseRoot = path.join(dir, 'pause');
  for (const inside of ['proc', 'dev']) mkdirSync(path.join(pauseRoot, inside), { recursive: true });
  copyFileSync('/usr/bin/catatonit', path.join(pauseRoot, 'pause'));
  for (const file of ['hostname', 'hosts', 'resolv.conf'])
    writeFileSync(path.join(dir, file), `pod's ${file}\n`);
  mkdirSync(path.join(dir, 'shm'));
  host = await gatherHostFacts();
  pause = await startPause('pause', pod);
});

afterAll(async () => {
  const listed = await runc('list', '--quiet');
  for (const id of listed.split('\n').filter(Boolean)) await runc('delete', '--force', id);
  const cgroups = await run('find', ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*${cgroupParent}*`]);
  for (const leftover of cgroups.stdout.split('\n').filter(Boolean)) await run('rmdir', [leftover]);
  rmSync(dir, { recursive: true, force: true });
});

async function runc(...args: string[]): Promise<string> {
  const result = await run('runc', ['--root', path.join(dir, 'state'), ...args], { timeoutMs: 20_000 });
  if (result.exitCode !== 0) throw new Error(`runc ${args.join(' ')}: ${result.outcome}: ${result.stderr}`);
  return result.stdout;
}

function writeBundle(id: string, spec: RuntimeSpec): string {
  const bundle = path.join(dir, 'bundles', id);
  mkdirSync(bundle, { recursive: true });
  writeFileSync(path.join(bundle, 'config.json'), JSON.stringify(spec));
  return bundle;
}

/** A detached container keeps its stdio, so it must not have the pipes that `run` waits for. */
async function startDetached(id: string, spec: RuntimeSpec): Promise<void> {
  const log = path.join(dir, `${id}.log`);
  const args = [
    '--root',
    path.join(dir, 'state'),
    '--log',
    log,
    'run',
    '--detach',
    '--bundle',
    writeBundle(id, spec),
    id,
  ];
  const [code] = await once(spawn('runc', args, { stdio: 'ignore' }), 'exit');
  if (code !== 0) throw new Error(`runc run ${id} failed, see ${(await run('cat', [log])).stdout}`);
}

async function startPause(id: string, config: PodSandboxConfig): Promise<Pause> {
  const { spec } = await buildSandboxSpec({
    sandboxId: id,
    selinuxLevel: '',
    config,
    rootfs: path.join(dir, 'pause'),
    pause: { args: builtInPauseArgs, native: true },
    host,
    options: defaultSandboxSpecOptions,
  });
  await startDetached(id, spec);
  return { id, pid: (JSON.parse(await runc('state', id)) as { pid: number }).pid };
}

let counter = 0;

async function build(
  config: ContainerConfig,
  {
    options = {},
    podConfig = pod,
    holder = pause,
    imageConfig = image,
    targetPid,
  }: {
    options?: Partial<ContainerSpecOptions>;
    podConfig?: PodSandboxConfig;
    holder?: Pause;
    imageConfig?: ImageConfig;
    targetPid?: number;
  } = {},
) {
  counter += 1;
  const containerId = `container-${counter}`;
  const built = await buildContainerSpec({
    containerId,
    sandbox: {
      id: holder.id,
      pid: holder.pid,
      config: podConfig,
      selinuxLevel: '',
      files: {
        hostname: path.join(dir, 'hostname'),
        hosts: path.join(dir, 'hosts'),
        resolvConf: path.join(dir, 'resolv.conf'),
        shm: path.join(dir, 'shm'),
      },
    },
    config,
    image: { name: 'example.test/busybox:1', config: imageConfig },
    rootfs,
    idmapDir: path.join(dir, 'idmapped'),
    volumesDir: path.join(dir, 'volumes'),
    targetPid,
    host,
    options: {
      ...defaultContainerSpecOptions,
      features: { recursiveReadOnlyMounts: true },
      ...options,
    },
  });
  for (const missing of built.hostPathsToCreate) mkdirSync(missing, { recursive: true });
  for (const volume of built.volumes) mkdirSync(volume.hostPath, { recursive: true });
  return { containerId, ...built };
}

/** Runs a shell script in a container and gives its standard output. */
async function inside(
  script: string,
  over: Parameters<typeof containerConfig>[0] = {},
  with_: Parameters<typeof build>[1] = {},
): Promise<string> {
  const config = containerConfig({ ...over, command: ['/bin/sh', '-c', script] });
  const { containerId, spec } = await build(config, with_);
  return (await runc('run', '--bundle', writeBundle(containerId, spec), containerId)).trim();
}

function statusLine(name: string): string {
  return `grep ^${name}: /proc/self/status`;
}

test('the pause container runs as nobody without capabilities, on the hostname and sysctls of the pod', async () => {
  const status = (await run('cat', [`/proc/${pause.pid}/status`])).stdout;
  expect(status).toMatch(/^Uid:\t65535\t65535\t65535\t65535$/m);
  expect(status).toMatch(/^CapBnd:\t0+$/m);
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  expect(
    await inside('hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start'),
  ).toBe('pod-host\n1\n0');
});

test('the pause program lives under the default seccomp profile, filtered for its own ABI alone', async () => {
  const filtered = await startPause(
    'pause-filtered',
    sandboxConfig({
      linux: { ...podLinux(), sysctls: {} },
      context: { seccomp: { profileType: 'RuntimeDefault', localhostRef: '' } },
    }),
  );
  const status = (await run('cat', [`/proc/${filtered.pid}/status`])).stdout;
  expect(status).toMatch(/^Seccomp:\t2$/m);
  expect(JSON.parse(await runc('state', filtered.id))).toMatchObject({ status: 'running' });
});

test('a process of a shared PID namespace cannot write kernel settings through the pause container', async () => {
  const shared = { context: { namespaceOptions: namespaceOptions({ pid: 'POD' }) } };
  expect(await inside('ls /proc/1/root/ 2>&1 || true', shared)).toContain('Permission denied');
});

test('user, groups, environment and working directory are those asked for', async () => {
  const out = await inside('id; pwd; env', {
    workingDir: '/tmp',
    envs: [{ key: 'BOTH', value: Buffer.from('container') }],
    context: { runAsUsername: 'alice', supplementalGroups: ['3000'] },
  });
  expect(out).toContain('uid=1000(alice) gid=1001(alice) groups=1001(alice),2000(wheel),3000');
  expect(out).toContain('\n/tmp\n');
  expect(out).toContain('FROM_IMAGE=yes');
  expect(out).toContain('BOTH=container');
  expect(out).toContain('HOSTNAME=pod-host');
});

test('the working directory is the one of the image when none is asked for', async () => {
  expect(await inside('pwd')).toBe('/srv');
});

test('an unprivileged container has the default capabilities and no more', async () => {
  expect(await inside(statusLine('CapEff'))).toMatch(/00000000a80425fb$/);
});

test('capabilities are added and dropped', async () => {
  const capabilities = {
    addCapabilities: ['NET_ADMIN'],
    dropCapabilities: ['ALL'],
    addAmbientCapabilities: [],
  };
  expect(await inside(statusLine('CapBnd'), { context: { capabilities } })).toMatch(/0000000000001000$/);
});

test('an ambient capability reaches a process that is not root', async () => {
  const capabilities = {
    addCapabilities: [],
    dropCapabilities: [],
    addAmbientCapabilities: ['NET_BIND_SERVICE'],
  };
  const asAlice = { context: { capabilities, runAsUser: { value: '1000' } } };
  expect(await inside(statusLine('CapEff'), asAlice)).toMatch(/0000000000000400$/);
});

test('a privileged container has all capabilities of the daemon, writable sysfs, and the devices of the host', async () => {
  const out = await inside(
    `${statusLine('CapEff')}; ${statusLine('Seccomp')}; grep ' /sys ' /proc/mounts; ls /dev/kmsg`,
    {
      context: { privileged: true, seccomp: { profileType: 'RuntimeDefault', localhostRef: '' } },
    },
  );
  const own = (await run('grep', ['^CapBnd', '/proc/self/status'])).stdout.split('\t')[1]?.trim();
  expect(out).toContain(`CapEff:\t${own}`);
  expect(out).toContain('Seccomp:\t0');
  expect(out).toMatch(/sysfs \/sys sysfs rw/);
  expect(out).toContain('/dev/kmsg');
});

test('the default seccomp profile keeps a container from making namespaces and lets it work', async () => {
  const seccomp = { profileType: 'RuntimeDefault', localhostRef: '' } as const;
  const out = await inside(`${statusLine('Seccomp')}; unshare -U true 2>&1; ls / | wc -l`, {
    context: { seccomp },
  });
  expect(out).toContain('Seccomp:\t2');
  expect(out).toContain('Operation not permitted');
  expect(out).toMatch(/\n\d+$/);
});

test('a localhost seccomp profile is the one in force', async () => {
  const profile = path.join(dir, 'profile.json');
  writeFileSync(
    profile,
    JSON.stringify({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 28 }],
    }),
  );
  const context = { seccomp: { profileType: 'Localhost', localhostRef: profile } } as const;
  expect(await inside('/bin/busybox mkdir /tmp/no 2>&1 || true', { context })).toContain('No space left');
});

test('no_new_privs is set when asked for', async () => {
  expect(await inside(statusLine('NoNewPrivs'))).toMatch(/0$/);
  expect(await inside(statusLine('NoNewPrivs'), { context: { noNewPrivs: true } })).toMatch(/1$/);
});

test('a read-only root refuses writes, while mounts of the container take them', async () => {
  const data = path.join(dir, 'made-for-the-mount');
  const out = await inside('touch /x 2>&1; touch /data/y && ls /data', {
    mounts: [mount({ hostPath: data })],
    context: { readonlyRootfs: true },
  });
  expect(out).toContain('Read-only file system');
  expect(out).toMatch(/\ny$/);
});

test("the pod's files and shared memory are mounted", async () => {
  writeFileSync(path.join(dir, 'shm/token'), 'shared');
  expect(await inside('cat /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm/token')).toBe(
    "pod's hosts\npod's hostname\npod's resolv.conf\nshared",
  );
});

test('a mount below another one is not hidden by it, whatever order they are given in', async () => {
  const [outer, inner] = [path.join(dir, 'outer'), path.join(dir, 'inner')];
  mkdirSync(path.join(outer, 'deep'), { recursive: true });
  mkdirSync(inner);
  writeFileSync(path.join(inner, 'found'), '');
  const mounts = [
    mount({ containerPath: '/data/deep', hostPath: inner, readonly: true, recursiveReadOnly: true }),
    mount({ containerPath: '/data', hostPath: outer }),
  ];
  expect(await inside('ls /data/deep; touch /data/deep/x 2>&1 || true', { mounts })).toMatch(
    /^found\n.*Read-only/,
  );
});

test('masked paths are empty and read-only paths refuse writes', async () => {
  const context = { maskedPaths: ['/proc/timer_list', '/sys/firmware'], readonlyPaths: ['/proc/sys'] };
  const out = await inside(
    'wc -c < /proc/timer_list; ls /sys/firmware | wc -l; touch /proc/sys/kernel/hostname 2>&1 || true',
    { context },
  );
  expect(out).toMatch(/^0\n0\n.*Read-only/);
});

test('rlimits are set, and clamped to what the daemon may have', async () => {
  const ceiling = host.rlimits.get('RLIMIT_NOFILE')?.hard ?? 1024;
  const asked = host.hasCapSysResource ? ceiling : ceiling + 1000;
  const rlimits = [{ type: 'RLIMIT_NOFILE', soft: 512, hard: asked }];
  const out = await inside('ulimit -Sn; ulimit -Hn', {}, { options: { rlimits } });
  expect(out).toBe(`512\n${ceiling}`);
});

test('oom_score_adj is raised as asked, and a lower one than allowed does not fail the container', async () => {
  expect(await inside('cat /proc/self/oom_score_adj', { limits: { oomScoreAdj: '900' } })).toBe('900');
  const lowest = host.hasCapSysResource ? '-900' : String(host.oomScoreAdj);
  expect(await inside('cat /proc/self/oom_score_adj', { limits: { oomScoreAdj: '-900' } })).toBe(lowest);
});

test('limits of memory, cpu and processes bind, and are changed while the container runs', async () => {
  const limits = {
    memoryLimitInBytes: String(64 * 2 ** 20),
    cpuShares: '512',
    cpuQuota: '50000',
    cpuPeriod: '100000',
  };
  const config = containerConfig({ limits, command: ['/bin/sleep', '1000'] });
  const { containerId, spec } = await build(config, { options: { pidsLimit: 33 } });
  await startDetached(containerId, spec);
  const read = async (v1: string, v2: string) => {
    const file = host.cgroup.version === 1 ? v1 : v2;
    return (await run('sh', ['-c', `cat /sys/fs/cgroup/${file}`])).stdout.trim();
  };
  const memory = () =>
    read(
      `memory${cgroupParent}/${containerId}/memory.limit_in_bytes`,
      `${cgroupParent}/${containerId}/memory.max`,
    );
  expect(await memory()).toBe(String(64 * 2 ** 20));
  expect(
    await read(`pids${cgroupParent}/${containerId}/pids.max`, `${cgroupParent}/${containerId}/pids.max`),
  ).toBe('33');

  const update = path.join(dir, 'update.json');
  writeFileSync(
    update,
    updateDocument({ ...spec.linux.resources, memory: { limit: 32 * 2 ** 20, swap: 32 * 2 ** 20 } }),
  );
  await runc('update', '--resources', update, containerId);
  expect(await memory()).toBe(String(32 * 2 ** 20));
  expect(
    await read(`pids${cgroupParent}/${containerId}/pids.max`, `${cgroupParent}/${containerId}/pids.max`),
  ).toBe('33');
  expect(
    await read(`cpu${cgroupParent}/${containerId}/cpu.shares`, `${cgroupParent}/${containerId}/cpu.weight`),
  ).toBe(host.cgroup.version === 1 ? '512' : '20');
});

test('a device asked for is there, and the device cgroup lets it be read', async () => {
  const devices = [{ hostPath: '/dev/kmsg', containerPath: '/dev/log-of-kernel', permissions: 'r' }];
  const out = await inside(
    'exec 3< /dev/log-of-kernel && echo opened; (exec 4> /dev/log-of-kernel) 2>&1 || true',
    {
      devices,
      context: {
        capabilities: { addCapabilities: ['SYSLOG'], dropCapabilities: [], addAmbientCapabilities: [] },
      },
    },
  );
  expect(out).toContain('opened');
  expect(out).toContain('Operation not permitted');
});

test('a volume of the image is a directory of the container', async () => {
  const imageConfig = { ...image, Volumes: { '/var/lib/db': {} } };
  expect(await inside("grep -c ' /var/lib/db ' /proc/self/mountinfo", {}, { imageConfig })).toBe('1');
});

test('the PID namespace is its own, the one of the pod, or the one of another container', async () => {
  const own = { context: { namespaceOptions: namespaceOptions({ pid: 'CONTAINER' }) } };
  expect(await inside('echo $$', own)).toBe('1');
  const ofPod = { context: { namespaceOptions: namespaceOptions({ pid: 'POD' }) } };
  expect(await inside('cat /proc/1/comm', ofPod)).toBe('pause');

  const { containerId, spec } = await build(containerConfig({ ...own, command: ['/bin/sleep', '1000'] }));
  await startDetached(containerId, spec);
  const target = JSON.parse(await runc('state', containerId)) as { pid: number };
  const ofTarget = {
    context: { namespaceOptions: namespaceOptions({ pid: 'TARGET', targetId: containerId }) },
  };
  expect(await inside('cat /proc/1/comm', ofTarget, { targetPid: target.pid })).toBe('sleep');
});

test('a pod with a user namespace: root inside is a plain user on the host', async () => {
  const usernsOptions = {
    mode: 'POD' as const,
    uids: [{ containerId: 0, hostId: 200000, length: 65536 }],
    gids: [{ containerId: 0, hostId: 200000, length: 65536 }],
  };
  const context = { namespaceOptions: namespaceOptions({ usernsOptions }) };
  const podConfig = sandboxConfig({ linux: { ...podLinux(), sysctls: {} }, context });
  const holder = await startPause('pause-userns', podConfig);
  const status = (await run('cat', [`/proc/${holder.pid}/status`])).stdout;
  expect(status).toMatch(/^Uid:\t265535\t/m);
  const out = await inside(
    'id -u; cat /proc/self/uid_map; ls /sys/class/net',
    { context },
    { podConfig, holder },
  );
  expect(out).toMatch(/^0\n\s+0\s+200000\s+65536\nlo$/);

  const onHost = { namespaceOptions: namespaceOptions({ usernsOptions, network: 'NODE' }) };
  const hostNetworkPod = sandboxConfig({ linux: { ...podLinux(), sysctls: {} }, context: onHost });
  const hostNetwork = await startPause('pause-userns-host-network', hostNetworkPod);
  const seen = await inside(
    'ls -l /proc/self/ns/net; ls /sys/class/net/lo/mtu',
    { context: onHost },
    { podConfig: hostNetworkPod, holder: hostNetwork },
  );
  expect(seen).toContain(readlinkSync('/proc/self/ns/net'));
  expect(seen).toMatch(/lo\/mtu$/);
});

test('a container with a terminal sees TERM', async () => {
  // The terminal itself is the monitor's business; here only the spec is asked.
  const { spec } = await build(containerConfig({ tty: true }));
  expect(spec.process.terminal).toBe(true);
  expect(spec.process.env).toContain('TERM=xterm');
});

function podLinux() {
  return { cgroupParent, sysctls: {}, overhead: null, resources: null, securityContext: null };
}
