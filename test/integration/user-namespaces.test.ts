// Pods with user namespaces: root inside is nobody in particular outside, and still owns its files, volumes and network.
import { chmodSync, readlinkSync, statSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, NamespaceOption, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { inspect, pausePid, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { expectUnchanged, tracesAfterAPod } from '../support/leftovers.ts';
import { startNode, type TestNode } from '../support/node.ts';

const first = 400_000;
const mapping = [{ hostId: first, containerId: 0, length: 65_536 }];
const usernsOptions = { mode: 'POD', uids: mapping, gids: mapping } as const;
const network = (over: Loose<NamespaceOption> = {}): Loose<NamespaceOption> => ({
  pid: 'CONTAINER',
  usernsOptions,
  ...over,
});
const podIn = (namespaceOptions: Loose<NamespaceOption> = network()): Loose<PodSandboxConfig> => ({
  linux: { securityContext: { namespaceOptions } },
});
const inside = (over: Loose<ContainerConfig> = {}, namespaceOptions = network()): Loose<ContainerConfig> => ({
  ...over,
  linux: { ...over.linux, ...secured({ namespaceOptions, ...over.linux?.securityContext }).linux },
});

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode({
    config: ({ directory }) => {
      // Root of a pod is another user on the node, who must be able to reach what is its own.
      chmodSync(directory, 0o711);
      return `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.without.options]
        BinaryName = "${directory}/plugins/without"`;
    },
    // stands beside the fake plugins, which the node makes before its daemon starts
    plugins: { without: {} },
  });
});
afterAll(() => node.destroy());
beforeEach(() => node.removeAll());

const lines = async (script: string, over?: Loose<ContainerConfig>) =>
  (await node.output(pod, script, over)).lines;

describe('in a pod with a user namespace', () => {
  beforeEach(async () => {
    pod = await node.runPod(podIn());
  });

  it('root has the ids that were asked for, in the pause process and in containers', async () => {
    const id = await node.runContainer(pod, 'sleep 1000', inside());
    const pids = [await pausePid(node, pod), (await inspect(node, id)).pid];
    const namespaces = pids.map(pid => readlinkSync(`/proc/${pid}/ns/user`));
    expect(new Set([...namespaces, readlinkSync('/proc/self/ns/user')]).size).toBe(2);
    for (const pid of pids) {
      const map = (await readFile(`/proc/${pid}/uid_map`, 'utf8')).trim().split(/\s+/).map(Number);
      expect(map).toEqual([0, first, 65_536]);
    }
    expect(statSync(`/proc/${pids[1]}`).uid).toBe(first);
    expect(await node.exec(id, 'id -u; echo by name > /dev/stdout')).toBe('0\nby name');
  });

  it('the root file system belongs to its root, who can write, and what is written is the node’s mapped user’s', async () => {
    const script =
      'stat -c %u:%g / /bin /etc/passwd; echo more >> /etc/group && tail -n1 /etc/group; ' +
      'touch /new; chown 12:13 /new; stat -c %u:%g /new; rm -r /var/www 2>/dev/null; echo done';
    const id = await node.runContainer(pod, `${script}; sleep 1000`, inside());
    await node.exec(id, 'until test -e /new; do sleep 0.1; done; sleep 0.2');
    expect(await node.logLines(id)).toEqual(['0:0', '0:0', '0:0', 'more', '12:13', 'done']);
    const upper = join(node.root, 'containers', id, 'upper');
    expect(statSync(join(upper, 'new'))).toMatchObject({ uid: first + 12, gid: first + 13 });
    expect(statSync(join(upper, 'etc/group')).uid).toBe(first);
  });

  it('the image is as it was for pods without', async () => {
    await lines('echo changed > /etc/passwd', inside());
    pod = await node.runPod();
    expect(await lines('stat -c %u:%g /etc/passwd; grep -c changed /etc/passwd')).toEqual(['0:0', '0']);
  });

  it('the network is its own: it can be configured with the capability', async () => {
    const script =
      'ip link add test0 type bridge && ip link set test0 up && echo made; ip -4 addr show eth0 | grep -c inet; ' +
      'cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls -d /sys/class/net/eth0; nc -l -p 80 & sleep 0.1; kill $!';
    const admin = inside(secured({ capabilities: { addCapabilities: ['NET_ADMIN'] } }));
    expect(await lines(script, admin)).toEqual(['made', '1', '0', '/sys/class/net/eth0']);
  });

  it('the pod’s files are root’s, and its standard output can be opened by name', async () => {
    const script =
      'for f in hostname hosts resolv.conf; do stat -c %u /etc/$f; done; echo 10.0.0.1 x >> /etc/hosts && echo ok; ' +
      'stat -c %u /dev/shm; touch /dev/shm/x && echo shm; echo through > /dev/stdout; id -u';
    expect(await lines(script, inside())).toEqual(['0', '0', '0', 'ok', '0', 'shm', 'through', '0']);
  });

  it('volumes have their owners mapped, files and directories, when kubelet asks for it', async () => {
    const volume = join(node.directory, 'volume');
    // Shared, as mounts are where systemd is init: what is unmounted in one place goes from the other.
    await mkdir(volume);
    await execa('mount', ['-t', 'tmpfs', '-o', 'nosuid,nodev,noexec', 'tmpfs', volume]);
    await execa('mount', ['--make-shared', volume]);
    await mkdir(join(volume, 'mounted'));
    await writeFile(join(volume, 'file'), 'text');
    await execa('chown', ['1000:1000', join(volume, 'file')]);
    await execa('mount', ['-t', 'tmpfs', 'tmpfs', join(volume, 'mounted')]);
    try {
      await writeFile(join(volume, 'mounted', 'below'), '');
      const mounts = [
        { containerPath: '/data', hostPath: volume, uidMappings: mapping, gidMappings: mapping },
        { containerPath: '/one', hostPath: join(volume, 'file'), uidMappings: mapping, gidMappings: mapping },
        {
          containerPath: '/read-only',
          hostPath: volume,
          uidMappings: mapping,
          gidMappings: mapping,
          readonly: true,
        },
        { containerPath: '/plain', hostPath: volume },
      ];
      const script =
        'stat -c %u:%g /data /data/file /one /plain/file; echo new > /data/new; echo "$(cat /one)"; ls /data/mounted; ' +
        'touch /read-only/x 2>/dev/null || echo refused';
      expect(await lines(script, inside({ mounts }))).toEqual([
        ...['0:0', '1000:1000', '1000:1000', '65534:65534', 'text', 'below', 'refused'],
      ]);
      expect(statSync(join(volume, 'new'))).toMatchObject({ uid: 0, gid: 0 });
      await node.removeAll();
      expect(await readFile(join(volume, 'file'), 'utf8')).toBe('text');
      expect(statSync(join(volume, 'mounted', 'below')).isFile()).toBe(true);
    } finally {
      await execa('umount', ['--recursive', volume]);
    }
  });

  it('a volume on a file system that cannot map owners is refused, and nothing is left', async () => {
    const mounts = [
      { containerPath: '/host-proc', hostPath: '/proc', uidMappings: mapping, gidMappings: mapping },
    ];
    const { code, details } = await failureOf(node.createContainer(pod, 'true', inside({ mounts })));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('cannot mount /proc: its owners cannot be mapped');
    expect((await node.cri.ListContainers()).containers).toEqual([]);
  });

  it('image volumes belong to its root', async () => {
    const mounts = [{ containerPath: '/image', image: { image: 'test/busybox:latest' }, readonly: true }];
    expect(await lines('stat -c %u /image /image/etc/passwd', inside({ mounts }))).toEqual(['0', '0']);
  });

  it('a container that says otherwise than its pod is refused', async () => {
    const { code, details } = await failureOf(node.createContainer(pod, 'true'));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('differs from that of the pod');
  });

  it('stays through a restart of the daemon', async () => {
    const id = await node.runContainer(pod, 'sleep 1000', inside());
    await node.kill();
    await node.start();
    expect(await node.exec(id, 'id -u; touch /x && echo written')).toBe('0\nwritten');
    expect(await lines('stat -c %u /etc/passwd', inside())).toEqual(['0']);
  });
});

it('a pod with a user namespace and the node’s network has containers, too', async () => {
  const onNode = network({ network: 'NODE' });
  pod = await node.runPod(podIn(onNode));
  const script =
    'id -u; stat -c %u /etc/passwd; ls -d /sys/class/net/lo; ip link add test0 type bridge 2>&1 | grep -c permitted';
  expect(await lines(script, inside({}, onNode))).toEqual(['0', '0', '/sys/class/net/lo', '1']);
});

it('nothing of it is left when the pod is gone', async () => {
  const before = await tracesAfterAPod(node);
  pod = await node.runPod(podIn());
  const volume = join(node.directory, 'gone');
  await mkdir(volume, { recursive: true });
  const mounts = [{ containerPath: '/data', hostPath: volume, uidMappings: mapping, gidMappings: mapping }];
  await node.runContainer(pod, 'sleep 1000', inside({ mounts }));
  await node.removeAll();
  await expectUnchanged(node, before);
  expect((await execa('ls', [join(node.state, 'userns'), join(node.state, 'idmapped')])).stdout).not.toMatch(
    /[0-9a-f]{8}/,
  );
});

it('handlers say truly whether they have user namespaces, and those without refuse the pod', async () => {
  const { runtimeHandlers } = await node.cri.Status();
  const has = Object.fromEntries(
    runtimeHandlers.map(({ name, features }) => [name, features?.userNamespaces]),
  );
  expect(has).toEqual({ '': true, runc: true, without: false });
  const { code, details } = await failureOf(node.runPod(podIn(), 'without'));
  expect(code).toBe(grpc.UNIMPLEMENTED);
  expect(details).toContain('cannot have a user namespace');
  expect(details).toContain('hostUsers: true');
});

it('two mappings are refused', async () => {
  const two = [...mapping, { hostId: 600_000, containerId: 65_536, length: 10 }];
  const call = node.runPod(podIn(network({ usernsOptions: { ...usernsOptions, uids: two } })));
  expect(await failureOf(call)).toMatchObject({
    code: grpc.INVALID_ARGUMENT,
    details: expect.stringContaining('needs one mapping of user ids'),
  });
});
