// What confines a container: capabilities, privilege, paths hidden and protected, seccomp, devices.
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, LinuxContainerSecurityContext } from '../../src/cri-api/types.ts';
import { capabilityNames } from '../../src/host/capabilities.ts';
import { inspect, procStatus, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode } from '../support/node.ts';

let node: TestNode;
let pod: string;
let privilegedPod: string;
beforeAll(async () => {
  node = await startNode();
  pod = await node.runPod();
  privilegedPod = await node.runPod({ linux: { securityContext: { privileged: true } } });
});
afterAll(() => node.destroy());

const lines = async (script: string, over: Loose<ContainerConfig> = {}, inPod = pod) =>
  (await node.output(inPod, script, over)).lines;

/** The capabilities of a mask of /proc/PID/status, without their prefix. */
function namesOf(mask = '0'): string[] {
  const bits = BigInt(`0x${mask}`);
  return capabilityNames
    .filter((_, bit) => (bits >> BigInt(bit)) & 1n)
    .map(name => name.slice('CAP_'.length));
}
/** All that this machine lets anybody have. */
const available = namesOf(procStatus(process.pid).get('CapBnd'));
async function capabilities(context: Loose<LinuxContainerSecurityContext>, inPod = pod) {
  const id = await node.runContainer(inPod, 'exec sleep 1000', secured(context));
  const status = procStatus((await inspect(node, id)).pid);
  return (kind: 'Bnd' | 'Eff' | 'Prm' | 'Inh' | 'Amb') => namesOf(status.get(`Cap${kind}`));
}
const defaults = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'NET_BIND_SERVICE'],
  ...['NET_RAW', 'SYS_CHROOT', 'MKNOD', 'AUDIT_WRITE', 'SETFCAP'],
];

describe('capabilities', () => {
  it('are the usual ones by default, and none is inheritable or ambient', async () => {
    const has = await capabilities({});
    for (const kind of ['Bnd', 'Eff', 'Prm'] as const) expect(has(kind)).toEqual(defaults);
    expect(has('Inh')).toEqual([]);
    expect(has('Amb')).toEqual([]);
  });

  it.each([
    ['added', { addCapabilities: ['NET_ADMIN'] }, [...defaults, 'NET_ADMIN']],
    [
      'dropped',
      { dropCapabilities: ['CHOWN', 'cap_kill'] },
      defaults.filter(name => !['CHOWN', 'KILL'].includes(name)),
    ],
    ['all dropped', { dropCapabilities: ['ALL'] }, []],
    [
      'all dropped but one',
      { dropCapabilities: ['ALL'], addCapabilities: ['NET_BIND_SERVICE'] },
      ['NET_BIND_SERVICE'],
    ],
    ['all added', { addCapabilities: ['ALL'] }, available],
    [
      'all added but one',
      { addCapabilities: ['ALL'], dropCapabilities: ['SYS_ADMIN'] },
      available.filter(name => name !== 'SYS_ADMIN'),
    ],
  ])('may be %s', async (_, asked, expected) => {
    expect((await capabilities({ capabilities: asked }))('Eff').sort()).toEqual([...expected].sort());
  });

  it('of users other than root are bounding, and ambient when asked for', async () => {
    const context = {
      runAsUser: { value: 1234 },
      capabilities: { addAmbientCapabilities: ['NET_BIND_SERVICE'] },
    };
    const has = await capabilities(context);
    expect(has('Bnd')).toEqual(defaults);
    expect(has('Eff')).toEqual(['NET_BIND_SERVICE']);
    expect(has('Amb')).toEqual(['NET_BIND_SERVICE']);
  });

  it('do what they are for', async () => {
    const script = 'ip link add name test0 type bridge 2>&1 && echo made; ip link del test0 2>/dev/null';
    expect((await lines(script))[0]).toMatch(/not permitted/);
    expect(await lines(script, secured({ capabilities: { addCapabilities: ['NET_ADMIN'] } }))).toEqual([
      'made',
    ]);
  });

  it('that the daemon does not have are left out, with a warning that names them', async () => {
    const missing = capabilityNames.map(name => name.slice(4)).find(name => !available.includes(name));
    if (missing === undefined) return;
    const has = await capabilities({ capabilities: { addCapabilities: [missing] } });
    expect(has('Bnd')).toEqual(defaults);
    expect(await node.log()).toContain(`CAP_${missing} left out`);
  });

  it('of unknown names are refused', async () => {
    const unknown = secured({ capabilities: { addCapabilities: ['FLY'] } });
    const { code, details } = await failureOf(node.createContainer(pod, 'true', unknown));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('CAP_FLY');
  });
});

describe('a privileged container', () => {
  const privileged = { privileged: true };

  it('has every capability, the host’s devices, and nothing hidden or protected', async () => {
    expect((await capabilities(privileged, privilegedPod))('Eff')).toEqual(available);
    const over = secured({
      ...privileged,
      maskedPaths: ['/proc/timer_list'],
      readonlyPaths: ['/proc/sys'],
      seccomp: { profileType: 'RuntimeDefault' },
    });
    const script =
      'ls /dev | sort | tr "\\n" " " | grep -c "kmsg"; grep Seccomp: /proc/self/status; ' +
      'grep -E " /proc/(timer_list|sys) | /sys (.*,)?ro[, ]" /proc/self/mounts; mount -t tmpfs tmpfs /tmp && echo mounted';
    expect(await lines(script, over, privilegedPod)).toEqual(['1', 'Seccomp:\t0', 'mounted']);
  });

  it('is refused in a pod that is not', async () => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true', secured(privileged)));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('privileged');
  });

  it('has neighbours that are not', async () => {
    expect((await capabilities({}, privilegedPod))('Eff')).toEqual(defaults);
  });
});

describe('paths', () => {
  it('are masked: files are empty, directories too', async () => {
    const script = 'cat /proc/meminfo; ls /proc/driver /var/www; echo end';
    const masked = secured({ maskedPaths: ['/proc/meminfo', '/proc/driver', '/var/www', '/no/such'] });
    expect(await lines(script, masked)).toEqual(['/proc/driver:', '', '/var/www:', 'end']);
  });

  it('are read-only', async () => {
    const script =
      'for f in /proc/sys/kernel/hostname /var/www/x; do touch $f 2>&1; done; cat /var/www/index.html';
    const over = secured({ readonlyPaths: ['/proc/sys', '/var/www', '/no/such'] });
    expect(await lines(script, over)).toEqual([
      'touch: /proc/sys/kernel/hostname: Read-only file system',
      'touch: /var/www/x: Read-only file system',
      'it works',
    ]);
  });

  it('are as the caller says: with empty lists nothing is masked', async () => {
    expect(await lines('grep -c MemTotal /proc/meminfo')).toEqual(['1']);
  });
});

describe('no_new_privs', () => {
  it('is set when asked for, and only then', async () => {
    const script = 'grep NoNewPrivs /proc/self/status';
    expect(await lines(script)).toEqual(['NoNewPrivs:\t0']);
    expect(await lines(script, secured({ noNewPrivs: true }))).toEqual(['NoNewPrivs:\t1']);
  });

  it('keeps set-user-id programs from raising anybody', async () => {
    const shared = await mkdtemp('/var/tmp/suid-'); // the node's directory may be on a file system that is mounted nosuid
    onTestFinished(() => rm(shared, { recursive: true }));
    execFileSync('cp', ['/bin/busybox', join(shared, 'traceroute')]);
    execFileSync('chmod', ['755', shared]);
    execFileSync('chmod', ['4755', join(shared, 'traceroute')]);
    const mounts = [{ hostPath: shared, containerPath: '/suid' }];
    const as = (noNewPrivs: boolean) => ({ mounts, ...secured({ runAsUser: { value: 1234 }, noNewPrivs }) });
    const script = '/suid/traceroute -n -m 1 127.0.0.1 2>&1 | head -n 1'; // it takes a raw socket
    expect(await lines(script, as(false))).toEqual([expect.stringMatching(/^traceroute to 127.0.0.1/)]);
    expect(await lines(script, as(true))).toEqual([expect.stringMatching(/not permitted/)]);
  });
});

describe('seccomp', () => {
  const mode = 'grep Seccomp: /proc/self/status';
  /** A profile that lets everything pass but mkdir. */
  const noMkdir = {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'],
    syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }],
  };

  it('is unconfined when nothing is said, and when that is asked for', async () => {
    expect(await lines(mode)).toEqual(['Seccomp:\t0']);
    expect(await lines(mode, secured({ seccomp: { profileType: 'Unconfined' } }))).toEqual(['Seccomp:\t0']);
  });

  it('filters by the runtime’s own profile', async () => {
    const over = secured({ seccomp: { profileType: 'RuntimeDefault' } });
    const script = `${mode}; unshare -U true 2>&1; mkdir /ok && echo ok`;
    expect(await lines(script, over)).toEqual([
      'Seccomp:\t2',
      expect.stringMatching(/unshare.*not permitted/),
      'ok',
    ]);
    expect(await lines('unshare -U true && echo ok')).toEqual(['ok']);
  });

  it('lets pass what the capabilities stand for', async () => {
    const context = {
      seccomp: { profileType: 'RuntimeDefault' as const },
      apparmor: { profileType: 'Unconfined' as const }, // whose profile would refuse mounts in its turn
      capabilities: { addCapabilities: ['SYS_ADMIN'] },
    };
    expect(await lines('mount -t tmpfs tmpfs /tmp && echo ok', secured(context))).toEqual(['ok']);
  });

  it('filters by a profile of the node', async () => {
    const localhostRef = join(node.directory, 'no-mkdir.json');
    await writeFile(localhostRef, JSON.stringify(noMkdir));
    const over = secured({ seccomp: { profileType: 'Localhost', localhostRef } });
    expect(await lines(`${mode}; mkdir /x 2>&1; touch /y && echo touched`, over)).toEqual([
      'Seccomp:\t2',
      expect.stringMatching(/mkdir.*not implemented/),
      'touched',
    ]);
    const id = await node.runContainer(pod, 'exec sleep 1000', over);
    expect(await node.exec(id, 'mkdir /x 2>&1 || true')).toMatch(/not implemented/);
  });

  it('takes the field of old kubelets', async () => {
    expect(await lines(mode, secured({ seccompProfilePath: 'runtime/default' }))).toEqual(['Seccomp:\t2']);
    expect(await lines(mode, secured({ seccompProfilePath: 'unconfined' }))).toEqual(['Seccomp:\t0']);
  });

  it.each([
    ['is missing', undefined, 'missing.json'],
    ['is no JSON', 'mkdir: no', 'broken.json'],
    ['has an unknown action', '{"defaultAction":"SCMP_ACT_MAYBE"}', 'unknown.json'],
  ])('refuses a profile that %s', async (_, text, name) => {
    const localhostRef = join(node.directory, name);
    if (text !== undefined) await writeFile(localhostRef, text);
    const over = secured({ seccomp: { profileType: 'Localhost', localhostRef } });
    const { code, details } = await failureOf(node.createContainer(pod, 'true', over));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(localhostRef);
  });
});

describe('devices', () => {
  const device = (over: object) => ({
    ...secured({ capabilities: { addCapabilities: ['SYSLOG'] } }), // /dev/kmsg asks for it too
    devices: [{ hostPath: '/dev/kmsg', containerPath: '/dev/my-log', permissions: 'r', ...over }],
  });

  it('are the harmless ones by default', async () => {
    const found = await lines(
      'for d in /dev/*; do [ -L $d ] || [ ! -c $d -a ! -b $d ] || basename $d; done; true',
    );
    expect(found.sort()).toEqual(['full', 'null', 'random', 'tty', 'urandom', 'zero']);
    expect(await lines('echo x > /dev/null && head -c 3 /dev/zero | wc -c')).toEqual(['3']);
  });

  it('may not be made and used, even with the capability to make them', async () => {
    expect(await lines('mknod /tmp/kmsg c 1 11 2>&1 && head -c 1 /tmp/kmsg 2>&1 | wc -c')).not.toEqual(['1']);
  });

  it('of the host are there when asked for, with the permissions given', async () => {
    const script =
      'ls /dev/my-log; dd if=/dev/my-log bs=4096 count=1 of=/dev/null 2>/dev/null && echo read; (echo x > /dev/my-log) 2>&1 || true';
    const found = await lines(script, device({}));
    expect(found.slice(0, 2)).toEqual(['/dev/my-log', 'read']);
    expect(found.join(' ')).toContain('not permitted');
    expect(await lines('echo cri-ts > /dev/my-log && echo written', device({ permissions: 'rw' }))).toEqual([
      'written',
    ]);
  });

  it('keep numbers, mode and owner', async () => {
    const script = 'stat -c "%t:%T %a %u:%g" /dev/my-log';
    const host = execFileSync('stat', ['-c', '%t:%T %a %u:%g', '/dev/kmsg'], { encoding: 'utf8' }).trim();
    expect(await lines(script, device({}))).toEqual([host]);
  });

  it.each([
    ['is not there', { hostPath: '/dev/no-such' }, '/dev/no-such'],
    ['is none', { hostPath: '/etc/passwd' }, '/etc/passwd'],
    ['has other permissions than r, w and m', { permissions: 'x' }, 'permissions'],
    ['has a relative path', { hostPath: 'dev/kmsg' }, 'dev/kmsg'],
  ])('is refused when it %s', async (_, over, words) => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true', device(over)));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(words);
  });
});
