// What only a kernel with AppArmor shows, seccomp under it, and user namespaces by both runtimes.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { type InstalledNode, installedNode, type Pod } from '../support/installed-node.ts';

let node: InstalledNode;
let pod: Pod;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'security-'));
  node = await installedNode();
  pod = await node.runPod();
});
afterAll(async () => {
  await node.leave();
  rmSync(directory, { recursive: true });
});

const runtimeDefault = { profileType: 'RuntimeDefault' } as const;
const unconfined = { profileType: 'Unconfined' } as const;
const confinement = 'cat /proc/self/attr/current';

describe('AppArmor', () => {
  it.each(['runc', 'crun'])('the runtime’s own profile is in force, with %s', async handler => {
    const own = await node.runPod({}, { handler });
    const admin = { capabilities: { addCapabilities: ['SYS_ADMIN'] } };
    const script = `${confinement}; mount -t tmpfs tmpfs /tmp 2>/dev/null && echo mounted`;
    const profile = 'cri-ts-default (enforce)';
    expect((await node.output(own, script, secured(admin))).lines).toEqual([profile]);
    expect((await node.output(own, script, secured({ ...admin, apparmor: runtimeDefault }))).lines).toEqual([
      profile,
    ]);
    // Debian gives each runtime a profile that confines nothing and is inherited: `runc (unconfined)`.
    expect((await node.output(own, script, secured({ ...admin, apparmor: unconfined }))).lines).toEqual([
      expect.stringMatching(/^(unconfined|\w+ \(unconfined\))$/),
      'mounted',
    ]);
    const id = await node.runContainer(own, 'exec sleep 1000');
    expect(await node.exec(id, confinement)).toBe(profile);
  });

  it('a profile of the node is in force when a container names it', async () => {
    const name = 'vm-test-no-etc';
    const file = join(directory, name);
    writeFileSync(file, `profile ${name} flags=(attach_disconnected) {\n  file,\n  deny /etc/passwd r,\n}\n`);
    await execa('apparmor_parser', ['--replace', '--skip-cache', file]);
    const localhost = secured({ apparmor: { profileType: 'Localhost', localhostRef: name } });
    const script = `${confinement}; cat /etc/passwd 2>&1; cat /etc/group | head -n 1`;
    expect((await node.output(pod, script, localhost)).lines).toEqual([
      `${name} (enforce)`,
      "cat: can't open '/etc/passwd': Permission denied",
      'root:x:0:',
    ]);
    await execa('apparmor_parser', ['--remove', file]);
    const { code, details } = await failureOf(node.createContainer(pod, 'true', localhost));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain(name);
  });
});

describe('seccomp', () => {
  it('filters under AppArmor and without: the runtime’s profile, and one of the node', async () => {
    const profile = join(directory, 'no-mkdir.json');
    const rule = { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 };
    writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [rule] }));
    const script =
      'grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null && echo unshared; mkdir /x && echo made';
    const lines = async (context: Parameters<typeof secured>[0]) =>
      (await node.output(pod, script, secured(context))).lines.filter(line => !line.includes('mkdir:'));
    expect(await lines({ seccomp: runtimeDefault })).toEqual(['Seccomp:\t2', 'made']);
    const localhost = { profileType: 'Localhost', localhostRef: profile } as const;
    expect(await lines({ seccomp: localhost, apparmor: unconfined })).toEqual(['Seccomp:\t2', 'unshared']);
  });

  it('is none where none is asked for: the service passes no filter on', async () => {
    const script = 'grep -E "^(Seccomp|NoNewPrivs):" /proc/self/status; busybox linux32 busybox uname -m';
    const nothing = ['NoNewPrivs:\t0', 'Seccomp:\t0', 'i686'];
    expect((await node.output(pod, script, secured({ seccomp: unconfined }))).lines).toEqual(nothing);
    expect((await node.output(pod, script)).lines).toEqual(nothing);
  });
});

describe.each(['runc', 'crun'])('a pod with a user namespace, with %s', handler => {
  const first = 400_000;
  const mapping = [{ hostId: first, containerId: 0, length: 65_536 }];
  const namespaceOptions = {
    pid: 'CONTAINER',
    usernsOptions: { mode: 'POD', uids: mapping, gids: mapping },
  } as const;

  it('is root of its own files and of its volumes, and nobody on the node', async () => {
    const own = await node.runPod({ linux: { securityContext: { namespaceOptions } } }, { handler });
    const volume = mkdtempSync('/var/tmp/volume-');
    writeFileSync(join(volume, 'theirs'), 'text');
    await chown(join(volume, 'theirs'), 1000, 1000);
    const mounts = [{ containerPath: '/data', hostPath: volume, uidMappings: mapping, gidMappings: mapping }];
    const id = await node.runContainer(own, 'touch /data/new /new; echo ready; exec sleep 1000', {
      ...secured({ namespaceOptions }),
      mounts,
    });
    await node.untilLogged(id, 'ready');
    expect(
      await node.exec(id, 'id -u; stat -c %u:%g / /new /data/theirs /data/new; cat /proc/self/uid_map'),
    ).toMatch(/^0\n0:0\n0:0\n1000:1000\n0:0\n\s*0\s+400000\s+65536$/);
    expect(statSync(join(volume, 'new'))).toMatchObject({ uid: 0, gid: 0 });
    // crun puts them into a cgroup below the scope.
    const scope = join(own.cgroup, `cri-ts-${id}.scope`);
    const { stdout: pids } = await execa('find', [scope, '-name', 'cgroup.procs', '-exec', 'cat', '{}', '+']);
    const pid = pids.split('\n')[0];
    // Not the owner of /proc/PID: that is root as long as the process may not be traced.
    expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(new RegExp(`^Uid:\\s+${first}\\s`, 'm'));
    expect(statSync(`/var/lib/cri-ts/containers/${id}/upper/new`).uid).toBe(first);
    rmSync(volume, { recursive: true });

    // The pod's files are on a tmpfs that has nosuid and nodev, which such a container cannot take from it.
    const readOnly = secured({ namespaceOptions, readonlyRootfs: true });
    const script = 'touch /x 2>/dev/null || echo read-only; cat /etc/hosts >/dev/null && echo hosts';
    expect((await node.output(own, script, readOnly)).lines).toEqual(['read-only', 'hosts']);
  });
});
