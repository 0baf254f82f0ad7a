// Each check on made-up nodes: what it finds, how bad it calls it, and that it says how to mend it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Config, loadConfig } from '../../../src/config/index.ts';
import { checks, examine, type Finding } from '../../../src/doctor/index.ts';
import { type FakeNode, fakeHost } from './fake-host.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cri-ts-doctor-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const defaults = loadConfig().config;
const runtime = 'plugins."io.containerd.cri.v1.runtime"';

function configured(text: string): Config {
  const file = join(root, 'config.toml');
  writeFileSync(file, `version = 3\n${text}`);
  return loadConfig({ file }).config;
}

async function findings(
  name: string,
  node: FakeNode,
  config: Config = defaults,
): Promise<readonly Finding[]> {
  const check = checks.find(check => check.name === name);
  if (check === undefined) throw new Error(`there is no check ${name}`);
  const [report] = await examine(fakeHost(root, node), config, [check]);
  return report?.findings ?? [];
}

/** Level and finding of each, in one line. */
async function lines(name: string, node: FakeNode, config?: Config): Promise<string[]> {
  return (await findings(name, node, config)).map(({ level, found }) => `${level} ${found}`);
}

describe('kernel version', () => {
  it.each([
    ['6.12.0-arm64', 'ok'],
    ['5.19.0', 'ok'],
    ['5.15.0-generic', 'warn'],
    ['5.2.21', 'fail'],
    ['4.19.0', 'fail'],
  ])('%s is %s', async (kernelRelease, level) => {
    expect(await lines('kernel version', { view: { kernelRelease } })).toEqual([
      `${level} Linux ${kernelRelease}`,
    ]);
  });
});

describe('kernel features', () => {
  const featureOf = async (name: string, node: FakeNode) =>
    (await findings('kernel features', node)).find(({ found }) => found.startsWith(name));

  it('are believed when the kernel shows them', async () => {
    expect(
      await featureOf('overlayfs', { files: { '/proc/filesystems': 'nodev\toverlay\n\text4\n' } }),
    ).toMatchObject({
      level: 'ok',
    });
    expect(await featureOf('veth', { files: { '/sys/module/veth/refcnt': '0' } })).toMatchObject({
      level: 'ok',
    });
  });

  it('are believed when the build configuration has them, packed or not', async () => {
    const plain = await featureOf('veth', { files: { '/boot/config-6.12.0': 'CONFIG_VETH=y\n' } });
    expect(plain?.found).toContain('CONFIG_VETH=y');
    const packed = fakeHost(root, { files: { '/proc/config.gz': '' } });
    writeFileSync(join(root, 'proc/config.gz'), gzipSync('CONFIG_BRIDGE=y\n'));
    expect(packed.readText('/proc/config.gz')).toBe('CONFIG_BRIDGE=y\n');
  });

  it('in a module count when the module is installed', async () => {
    const config = { '/boot/config-6.12.0': 'CONFIG_VETH=m\n' };
    const installed = await featureOf('veth', {
      files: { ...config, '/lib/modules/6.12.0/modules.dep': 'kernel/drivers/net/veth.ko.xz:\n' },
    });
    expect(installed?.level).toBe('ok');
  });

  it('in a module that is not installed fail, with the command that installs it', async () => {
    const missing = await featureOf('veth', { files: { '/boot/config-6.12.0': 'CONFIG_VETH=m\n' } });
    expect(missing?.level).toBe('fail');
    expect(missing?.mend).toContain('modprobe veth');
  });

  it('that the kernel was built without fail when pods cannot do without, else warn', async () => {
    const node: FakeNode = { files: { '/boot/config-6.12.0': '# CONFIG_VETH is not set\n' } };
    expect((await featureOf('veth', node))?.level).toBe('fail');
    expect((await featureOf('bridge', node))?.level).toBe('warn');
  });

  it('are not called missing where nothing can be known', async () => {
    expect((await featureOf('veth', {}))?.level).toBe('info');
  });
});

describe('cgroups', () => {
  const v2 = { '/proc/self/mounts': 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n' };
  const hybrid = {
    '/proc/self/mounts': [
      'cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0',
      'cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0',
      'cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0',
    ].join('\n'),
    '/proc/cgroups':
      '#subsys_name\thierarchy\tnum\tenabled\ncpu\t1\t1\t1\ncpuacct\t1\t1\t1\nmemory\t2\t1\t1\n',
  };

  it('v2 with the controllers that pods need is ok', async () => {
    const files = { ...v2, '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n' };
    expect(await lines('cgroup layout', { files })).toEqual([
      'ok cgroup v2',
      'ok controllers: cpuset, cpu, io, memory, pids',
    ]);
  });

  it('v2 without the memory controller fails', async () => {
    const files = { ...v2, '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io pids\n' };
    const [, controllers] = await findings('cgroup layout', { files });
    expect(controllers).toMatchObject({
      level: 'fail',
      mend: expect.stringContaining('cgroup_enable=memory'),
    });
    expect(controllers?.found).toContain('missing: memory');
  });

  it('hybrid warns, and counts the controllers of v1', async () => {
    const [layout, controllers] = await lines('cgroup layout', { files: hybrid });
    expect(layout).toMatch(/^warn cgroup v1, with a v2 hierarchy/);
    expect(controllers).toBe('fail controllers: cpu, cpuacct, memory; missing: cpuset, pids, devices');
  });

  it('not mounted at all fail', async () => {
    expect((await findings('cgroup layout', {}))[0]?.level).toBe('fail');
  });

  const systemd = { '/run/systemd/system/x': '' };
  const withSystemd = () => configured(`[${runtime}.containerd.runtimes.runc.options]\nSystemdCgroup = true`);

  it('the systemd driver fails without systemd', async () => {
    const [finding] = await findings('cgroup driver', { files: v2 }, withSystemd());
    expect(finding).toMatchObject({ level: 'fail', mend: expect.stringContaining('SystemdCgroup = false') });
  });

  it('the cgroupfs driver warns with systemd', async () => {
    const [finding] = await findings('cgroup driver', { files: { ...v2, ...systemd } });
    expect(finding).toMatchObject({ level: 'warn', mend: expect.stringContaining('SystemdCgroup = true') });
  });

  it('a driver that fits the init system is ok', async () => {
    expect(await lines('cgroup driver', { files: { ...v2, ...systemd } }, withSystemd())).toEqual([
      'ok driver systemd, with systemd',
    ]);
    rmSync(join(root, 'run'), { recursive: true });
    expect(await lines('cgroup driver', { files: v2 })).toEqual(['ok driver cgroupfs, without systemd']);
  });

  it('runtimes with different drivers warn', async () => {
    const config = configured(`[${runtime}.containerd.runtimes.crun.options]\nSystemdCgroup = true`);
    expect((await lines('cgroup driver', { files: v2 }, config))[0]).toBe(
      'warn SystemdCgroup differs between runtimes: runc false, crun true',
    );
  });

  it('cgroup_writable fails off cgroup v2', async () => {
    const config = configured(`[${runtime}.containerd.runtimes.runc]\ncgroup_writable = true`);
    expect((await findings('cgroup driver', { files: v2 }, config)).map(({ level }) => level)).toEqual([
      'ok',
    ]);
    expect((await findings('cgroup driver', { files: hybrid }, config)).map(({ level }) => level)).toEqual([
      'ok',
      'fail',
    ]);
  });
});

describe('programs', () => {
  it('are found on PATH and tell their version', async () => {
    expect(await lines('OCI runtimes', { programs: { '/usr/bin/runc': 'runc version 1.2.3' } })).toEqual([
      'ok runtime runc (default): /usr/bin/runc, runc version 1.2.3',
    ]);
  });

  it('missing: the default runtime fails, another warns', async () => {
    const config = configured(
      `[${runtime}.containerd.runtimes.gvisor]\nruntime_type = "io.containerd.runsc.v1"`,
    );
    const found = await findings('OCI runtimes', {}, config);
    expect(found.map(({ level }) => level)).toEqual(['fail', 'warn']);
    expect(found[0]?.mend).toContain('apt install runc');
    expect(found[1]?.mend).toContain('runtimes.gvisor.options.BinaryName');
  });

  it('that are there but do not run fail', async () => {
    expect((await lines('OCI runtimes', { programs: { '/usr/bin/runc': undefined } }))[0]).toMatch(
      /^fail .*does not tell its version/,
    );
  });

  it('crun on a hybrid layout warns', async () => {
    const config = configured(`[${runtime}.containerd.runtimes.runc.options]\nBinaryName = "crun"`);
    const files = {
      '/proc/self/mounts':
        'c /sys/fs/cgroup/pids cgroup rw,pids 0 0\nc /sys/fs/cgroup/unified cgroup2 rw 0 0',
    };
    const programs = { '/usr/bin/crun': 'crun version 1.8.1' };
    expect((await findings('OCI runtimes', { files, programs }, config))[0]?.level).toBe('warn');
  });

  it('conmon missing fails with the command that installs it', async () => {
    expect((await findings('conmon', {}))[0]).toMatchObject({
      level: 'fail',
      mend: expect.stringContaining('apt install conmon'),
    });
    expect(await lines('conmon', { programs: { '/usr/bin/conmon': 'conmon version 2.1.6' } })).toEqual([
      'ok /usr/bin/conmon, conmon version 2.1.6',
    ]);
  });

  it('the pause program is only needed when no sandbox image is configured', async () => {
    expect((await findings('pause program', {}))[0]?.level).toBe('fail');
    expect(await lines('pause program', { programs: { '/usr/bin/catatonit': '' } })).toEqual([
      'ok /usr/bin/catatonit',
    ]);
    const config = configured(
      `[plugins."io.containerd.cri.v1.images".pinned_images]\nsandbox = "example.org/pause:1"`,
    );
    expect((await findings('pause program', {}, config))[0]).toMatchObject({ level: 'info' });
  });

  it('iptables missing warns, criu missing is only told', async () => {
    expect((await findings('helpers', {})).map(({ level }) => level)).toEqual(['warn', 'info']);
  });

  it('Node.js older than 20 fails', async () => {
    expect(await lines('Node.js', { view: { nodeVersion: 'v18.19.0' } })).toEqual(['fail v18.19.0']);
  });
});

describe('CNI configuration', () => {
  const bridge = '{"cniVersion":"1.0.0","name":"pods","type":"bridge","ipam":{"type":"host-local"}}';
  const loopback = '{"cniVersion":"1.0.0","name":"lo","type":"loopback"}';
  const second = '{"cniVersion":"1.0.0","name":"more","type":"bridge"}';
  const programs = { '/opt/cni/bin/bridge': '', '/opt/cni/bin/loopback': '' };
  const plugins = {
    bridge: ['0.4.0', '1.0.0'],
    loopback: ['0.4.0', '1.0.0'],
    'host-local': ['0.4.0', '1.0.0'],
  };

  it('names the files that will be invoked, in order, with their interfaces', async () => {
    const files = {
      '/etc/cni/net.d/99-loopback.conf': loopback,
      '/etc/cni/net.d/20-more.conf': second,
      '/etc/cni/net.d/10-bridge.conf': bridge,
    };
    const [invoked, alone] = await findings('CNI configuration', { files, programs, plugins });
    expect(invoked?.level).toBe('ok');
    expect(invoked?.found.replaceAll(root, '')).toBe(
      'invoked for each pod, in this order: /etc/cni/net.d/10-bridge.conf (bridge) as eth0; ' +
        '/etc/cni/net.d/20-more.conf (bridge) as eth1; /etc/cni/net.d/99-loopback.conf (loopback) as lo',
    );
    expect(alone?.level).toBe('info');
    expect(alone?.found.replaceAll(root, '')).toBe(
      'containerd, with its default max_conf_num = 1, would invoke the first alone: /etc/cni/net.d/10-bridge.conf',
    );
  });

  it('tells which versions each plugin speaks', async () => {
    const files = { '/etc/cni/net.d/10-bridge.conf': bridge };
    expect(await lines('CNI configuration', { files, programs, plugins })).toEqual([
      expect.stringMatching(/^ok invoked for each pod/),
      'ok plugin bridge: CNI 0.4.0 to 1.0.0',
      'ok plugin host-local: CNI 0.4.0 to 1.0.0',
    ]);
  });

  it('tells when plugins are spoken to in an older version than the file asks for', async () => {
    const files = { '/etc/cni/net.d/99-loopback.conf': loopback };
    const view = { agreedVersion: () => Promise.resolve('0.4.0') };
    expect(await lines('CNI configuration', { files, programs, plugins, view })).toContainEqual(
      expect.stringMatching(/^info .*asks for CNI 1\.0\.0; its plugins are spoken to in 0\.4\.0/),
    );
  });

  it('fails when plugins share no version', async () => {
    const files = { '/etc/cni/net.d/99-loopback.conf': loopback };
    const view = { agreedVersion: () => Promise.reject(new Error('they share none')) };
    expect(await lines('CNI configuration', { files, programs, plugins, view })).toContainEqual(
      'fail they share none',
    );
  });

  it('warns while there is none, for an add-on may bring it', async () => {
    const found = await findings('CNI configuration', {});
    expect(found).toMatchObject([{ level: 'warn', mend: expect.stringContaining('/etc/cni/net.d') }]);
  });

  it('fails for a file that cannot be used, naming it', async () => {
    const files = {
      '/etc/cni/net.d/10-bad.conf': '{',
      '/etc/cni/net.d/20-none.conf': '{"name":"x","type":"absent"}',
    };
    const found = (await findings('CNI configuration', { files })).filter(({ level }) => level === 'fail');
    expect(found.map(({ found }) => found.replaceAll(root, ''))).toEqual([
      expect.stringContaining('/etc/cni/net.d/10-bad.conf'),
      expect.stringContaining('/etc/cni/net.d/20-none.conf'),
    ]);
    expect(found[1]?.mend).toContain('containernetworking-plugins');
  });

  it('looks at the directories of runtimes too', async () => {
    const config = configured(`[${runtime}.containerd.runtimes.special]\ncni_conf_dir = "/etc/cni/special"`);
    const files = { '/etc/cni/net.d/10-bridge.conf': bridge, '/etc/cni/special/10-lo.conf': loopback };
    expect(await lines('CNI configuration', { files, programs, plugins }, config)).toContainEqual(
      expect.stringMatching(
        /^ok invoked for each pod of the runtime special.*10-lo\.conf \(loopback\) as lo/,
      ),
    );
  });
});

describe('network of the kernel', () => {
  it('forwarding off fails for IPv4 and is told for IPv6', async () => {
    const files = { '/proc/sys/net/ipv4/ip_forward': '0\n', '/proc/sys/net/ipv6/conf/all/forwarding': '0\n' };
    const found = await findings('IP forwarding', { files });
    expect(found.map(({ level }) => level)).toEqual(['fail', 'info']);
    expect(found[0]?.mend).toContain('net.ipv4.ip_forward = 1');
  });

  it('forwarding on is ok, and without IPv6 nothing is said of it', async () => {
    expect(await lines('IP forwarding', { files: { '/proc/sys/net/ipv4/ip_forward': '1\n' } })).toEqual([
      'ok net.ipv4.ip_forward = 1',
    ]);
  });

  it('bridged traffic that iptables does not see warns', async () => {
    const file = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    expect((await findings('bridged traffic', {}))[0]?.mend).toContain('modprobe br_netfilter');
    expect((await findings('bridged traffic', { files: { [file]: '0\n' } }))[0]?.level).toBe('warn');
    expect((await findings('bridged traffic', { files: { [file]: '1\n' } }))[0]?.level).toBe('ok');
  });
});

it('swap is told with its devices', async () => {
  const head = 'Filename\tType\tSize\tUsed\tPriority\n';
  expect(await lines('swap', { files: { '/proc/swaps': head } })).toEqual(['ok no swap']);
  expect(await lines('swap', { files: { '/proc/swaps': `${head}/dev/sda2 partition 1 0 -2\n` } })).toEqual([
    'info swap on /dev/sda2',
  ]);
});

describe('capabilities', () => {
  const effective = (mask: string): FakeNode => ({
    files: { '/proc/self/status': `Name:\tnode\nCapEff:\t${mask}\n` },
  });

  it('complete are ok', async () => {
    expect(await lines('capabilities', effective('000001ffffffffff'))).toEqual(['ok all that are needed']);
  });

  it('without CAP_SYS_RESOURCE warn that oom_score_adj is clamped', async () => {
    const [finding, ...others] = await findings('capabilities', effective('000001fffeffffff'));
    expect(finding).toMatchObject({ level: 'warn', found: 'missing: CAP_SYS_RESOURCE' });
    expect(finding?.why).toContain('oom_score_adj');
    expect(finding?.why).toContain('clamped');
    expect(others).toEqual([]);
  });

  it('of an ordinary container fail for what pods need', async () => {
    const found = await lines('capabilities', effective('00000000a80425fb'));
    expect(found[0]).toBe('fail missing: CAP_NET_ADMIN, CAP_SYS_ADMIN');
  });

  it('of an ordinary user fail', async () => {
    const found = await lines('capabilities', { ...effective('0000000000000000'), view: { uid: 1000 } });
    expect(found[0]).toBe('fail runs as user 1000');
  });
});

it('restrictions that containers inherit warn', async () => {
  const status = (seccomp: number, noNewPrivs: number): FakeNode => ({
    files: { '/proc/self/status': `Name:\tnode\nNoNewPrivs:\t${noNewPrivs}\nSeccomp:\t${seccomp}\n` },
  });
  expect(await lines('restrictions', status(0, 0))).toEqual(['ok no seccomp filter, no no_new_privs']);
  expect(await lines('restrictions', status(2, 1))).toEqual([
    'warn runs with a seccomp filter and no_new_privs',
  ]);
});

it('low resource limits warn', async () => {
  const limits = (files: string) =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 ${files}               files\nMax processes             9                 unlimited                processes\n`;
  const node = (files: string): FakeNode => ({
    files: { '/proc/self/limits': limits(files), '/proc/sys/kernel/pid_max': '1000' },
  });
  expect(await lines('resource limits', node('4096'))).toEqual([
    'warn Max open files: 4096',
    'ok Max processes: unlimited',
    'warn kernel.pid_max = 1000',
  ]);
  expect((await lines('resource limits', node('524288')))[0]).toBe('ok Max open files: 524288');
});

describe('storage', () => {
  const space = (changes: object): FakeNode => ({
    view: {
      space: at => ({
        at,
        magic: 0xef53,
        totalBytes: 100 * 1024 ** 3,
        freeBytes: 50 * 1024 ** 3,
        totalInodes: 1000,
        freeInodes: 500,
        ...changes,
      }),
    },
  });

  it('that cannot be written fails with the reason', async () => {
    const found = await findings('directories', { view: { whyNotWritable: path => `${path} is read-only` } });
    expect(found[0]).toMatchObject({
      level: 'fail',
      found: expect.stringContaining('/var/lib/cri-ts is read-only'),
    });
  });

  it('on overlayfs cannot hold layers', async () => {
    const found = await lines('directories', space({ magic: 0x794c7630 }));
    expect(found).toContain('fail root /var/lib/cri-ts is on overlay');
  });

  it('in memory warns for root and is right for state', async () => {
    const found = await lines('directories', space({ magic: 0x01021994 }));
    expect(found).toContain('warn root /var/lib/cri-ts is on tmpfs');
    expect(found).toContain('ok state /run/cri-ts is on tmpfs');
  });

  it.each([
    [50, 'ok'],
    [10, 'warn'],
    [0.5, 'fail'],
  ])('with %d of 100 GiB free is %s', async (free, level) => {
    expect((await findings('disk space', space({ freeBytes: free * 1024 ** 3 })))[0]?.level).toBe(level);
  });

  it('short of inodes warns, and a file system without a count of them does not', async () => {
    expect((await findings('disk space', space({ freeInodes: 10 }))).map(({ level }) => level)).toEqual([
      'ok',
      'warn',
    ]);
    expect(await findings('disk space', space({ totalInodes: 0, freeInodes: 0 }))).toHaveLength(1);
  });
});

describe('the CRI socket', () => {
  const path = '/run/cri-ts/cri-ts.sock';
  const servedBy = (command: string): FakeNode => ({
    files: {
      [path]: '',
      '/proc/net/unix': `Num RefCount Protocol Flags Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 4242 ${path}\n`,
      '/proc/77/cmdline': command,
    },
    links: { '/proc/77/fd/5': 'socket:[4242]' },
    answeringSockets: [path],
  });

  it('that is not there, or that nobody serves, is free', async () => {
    expect((await findings('CRI socket', {}))[0]?.level).toBe('ok');
    expect(await lines('CRI socket', { files: { [path]: '' } })).toEqual([
      `ok ${path} is left over from a daemon that is gone; the next start replaces it`,
    ]);
  });

  it('served by another daemon fails and names it', async () => {
    expect(await lines('CRI socket', servedBy('/usr/bin/containerd\0--flag\0'))).toEqual([
      `fail ${path} is served by /usr/bin/containerd --flag (pid 77)`,
    ]);
  });

  it('served by cri-ts is ok', async () => {
    expect((await findings('CRI socket', servedBy('node\0/usr/bin/cri-ts\0serve\0')))[0]?.level).toBe('ok');
  });
});

it('another runtime on the same CNI directory warns, on another one is only told', async () => {
  const socket = '/run/containerd/containerd.sock';
  const node = { files: { [socket]: '' }, answeringSockets: [socket] };
  expect((await findings('other runtimes', node))[0]?.level).toBe('warn');
  const apart = configured(`[${runtime}.cni]\nconf_dir = "/etc/cri-ts/net.d"`);
  expect((await findings('other runtimes', node, apart))[0]?.level).toBe('info');
  expect((await findings('other runtimes', { files: { [socket]: '' } }))[0]?.level).toBe('ok');
});

describe('security modules', () => {
  it('AppArmor in use needs its parser', async () => {
    const files = { '/sys/module/apparmor/parameters/enabled': 'Y\n' };
    expect((await findings('security modules', { files }))[0]?.mend).toBe('apt install apparmor');
    const programs = { '/usr/sbin/apparmor_parser': '' };
    expect((await lines('security modules', { files, programs }))[0]).toBe('ok AppArmor: in use');
  });

  it('SELinux in use warns while its labels are off', async () => {
    const files = { '/sys/fs/selinux/enforce': '1' };
    expect((await lines('security modules', { files }))[1]).toBe(
      'warn SELinux: enforcing, but enable_selinux = false',
    );
    const on = configured(`[${runtime}]\nenable_selinux = true`);
    expect((await lines('security modules', { files }, on))[1]).toBe('ok SELinux: enforcing');
  });
});
