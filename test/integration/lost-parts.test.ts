// Parts of a running pod are taken away behind the daemon's back: it must say so, and still end and remove the pod whole.
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { open } from 'lmdb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addImage } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { afterOnePod, cleanUp, type Everything, everything, untilAsBefore } from '../support/everything.ts';
import { fakePluginCalls, passesOn } from '../support/fake-plugins.ts';
import { bridgeConf, startNode, type TestNode, until, untilEqual } from '../support/node.ts';

let node: TestNode;
let before: Everything;
beforeAll(async () => {
  node = await startNode();
  before = await afterOnePod(node);
});
afterAll(() => node.destroy());

/** Pids of the node's processes whose command line holds all the words. */
function pidsOf(...words: string[]): number[] {
  const lines = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' }).split('\n');
  return lines
    .filter(line => words.every(word => line.includes(word)))
    .map(line => Number.parseInt(line, 10));
}

/** Pids of the processes in the cgroup of a container or pause container. */
function processesOf(id: string): number[] {
  for (const root of ['/sys/fs/cgroup/memory', '/sys/fs/cgroup']) {
    try {
      const text = readFileSync(join(root, node.cgroupParent, id, 'cgroup.procs'), 'utf8');
      return text.split('\n').filter(Boolean).map(Number);
    } catch {
      // not there, or not any more
    }
  }
  return [];
}

const killNow = (pids: readonly number[]) => {
  expect(pids).not.toEqual([]);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
};
const conmonOf = (containerId: string) => pidsOf('conmon', containerId);
const podState = async (podSandboxId: string) =>
  (await node.cri.PodSandboxStatus({ podSandboxId })).status?.state;
const netnsNames = () => readdirSync('/run/netns');

const daemons = [
  { daemon: 'the daemon that started it', under: async (loss: () => void) => loss() },
  {
    daemon: 'a later daemon',
    async under(loss: () => void) {
      await node.kill();
      await node.start();
      loss();
    },
  },
  {
    daemon: 'none, and one that starts after it',
    async under(loss: () => void) {
      await node.kill();
      loss();
      await node.start();
    },
  },
];

describe.each(daemons)('with $daemon', ({ under }) => {
  it('a container whose conmon is killed ends with it, as 255 and Unknown', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    await under(() => killNow(conmonOf(id)));
    expect(await node.untilExited(id)).toMatchObject({
      exitCode: 255,
      reason: 'Unknown',
      message: expect.stringContaining('conmon'),
    });
    await until('its processes are gone', () => processesOf(id).length === 0 || undefined);
    expect(await podState(pod)).toBe('SANDBOX_READY');
    await untilAsBefore(node, before);
  });

  it("a container whose first process is killed reports the signal's exit code", async () => {
    const id = await node.runContainer(await node.runPod(), 'sleep 1000');
    await under(() => killNow(processesOf(id)));
    expect(await node.untilExited(id)).toMatchObject({ exitCode: 137, reason: 'Error' });
    await untilAsBefore(node, before);
  });

  it('a pod whose pause process is killed is NOTREADY, and takes no more containers', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    await under(() => killNow(processesOf(pod)));
    await until('the sandbox is NOTREADY', async () =>
      (await podState(pod)) === 'SANDBOX_NOTREADY' ? true : undefined,
    );
    await expect(node.createContainer(pod, 'true')).rejects.toThrow(/FAILED_PRECONDITION.*not READY/);
    await node.untilExited(id); // its pid namespace was the pod's, and ended with the first process of that
    await untilAsBefore(node, before);
  });

  it('a network namespace that was unmounted by hand does not leave its address and firewall rules', async () => {
    const pod = await node.runPod();
    const [name] = netnsNames();
    await under(() => execFileSync('umount', [`/run/netns/${name}`]));
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await untilAsBefore(node, before);
  });

  it('a network namespace that was removed with its name does not leave them either', async () => {
    const pod = await node.runPod();
    const [name] = netnsNames();
    await under(() => execFileSync('ip', ['netns', 'delete', `${name}`]));
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await untilAsBefore(node, before);
  });

  it('a bundle that was deleted does not keep a container from being stopped and removed', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    await under(() => {
      for (const name of readdirSync(join(node.state, 'containers', id))) {
        if (name !== 'rootfs') rmSync(join(node.state, 'containers', id, name), { recursive: true });
      }
    });
    await node.cri.StopContainer({ containerId: id, timeout: 0 });
    expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 137 });
    await untilAsBefore(node, before);
  });
});

describe('layers of an image that were deleted', () => {
  it('are missed by new containers, in words, and hinder neither those that run nor their removal', async () => {
    const own = await startNode();
    const intact = await afterOnePod(own);
    const pod = await own.runPod();
    const id = await own.runContainer(pod, 'exec sleep 1000');
    const layers = join(own.root, 'layers');
    for (const name of readdirSync(layers)) rmSync(join(layers, name), { recursive: true });
    const { details } = await failureOf(own.createContainer(pod, 'true'));
    expect(details).toMatch(/layer .* of image .* is missing: remove the image and pull it again/);
    expect((await own.status(id)).state).toBe('CONTAINER_RUNNING');
    await own.kill();
    await own.start();
    expect((await own.status(id)).state).toBe('CONTAINER_RUNNING');
    const notOfLayers = ({ files, ...rest }: Everything) => ({
      ...rest,
      files: files.filter(path => !path.startsWith(layers)),
    });
    await untilEqual(async () => {
      await cleanUp(own);
      return notOfLayers(everything(own));
    }, notOfLayers(intact));
    await own.destroy();
  });
});

describe('a container whose record cannot be read', () => {
  async function damageRecord(id: string): Promise<void> {
    const store = open({ path: join(node.root, 'store'), maxDbs: 16, encoding: 'json' });
    store.openDB({ name: 'containers', encoding: 'string' }).putSync(id, '{"id":');
    await store.close();
  }

  it('goes on, is told of in the log, and ends with its pod', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    await node.kill();
    await damageRecord(id);
    await node.start();
    expect(processesOf(id)).not.toEqual([]);
    expect(conmonOf(id)).not.toEqual([]);
    expect((await node.cri.ListContainers()).containers).toEqual([]);
    expect(await node.log()).toMatch(new RegExp(`"container":"${id}".*a container runs whose record`));
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    expect(processesOf(id)).toEqual([]);
    await untilAsBefore(node, before);
  });

  it('leaves nothing when it has ended', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'true');
    await node.untilExited(id);
    await node.kill();
    await damageRecord(id);
    await node.start();
    expect(await node.log()).toMatch(new RegExp(`"container":"${id}".*was removed`));
    await untilAsBefore(node, before);
  });
});

describe('after a reboot', () => {
  /** What a reboot does to the node: processes, mounts, namespaces and links are gone, and `state` is empty. */
  async function reboot(rebooted: TestNode): Promise<void> {
    await rebooted.kill();
    // Containers first, while their conmon reaps them: not every machine that runs tests has an init that does.
    for (const pids of [cgroupMembers(rebooted), pidsOf(rebooted.directory)]) {
      for (const pid of pids) killIfThere(pid);
    }
    await until('its processes are gone', () => cgroupMembers(rebooted).length === 0 || undefined);
    for (const path of [...mountsBelow(rebooted.state), ...mountsBelow('/run/netns/')]) {
      await execa('umount', ['-l', path], { reject: false });
    }
    for (const name of netnsNames()) rmSync(`/run/netns/${name}`);
    await execa('ip', ['link', 'delete', rebooted.bridge], { reject: false });
    for (const table of ['nat', 'filter']) {
      for (const command of ['iptables', 'ip6tables']) {
        await execa(command, ['-t', table, '-F'], { reject: false });
        await execa(command, ['-t', table, '-X'], { reject: false });
      }
    }
    const cgroups = ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*${rebooted.cgroupParent}/*`];
    await execa('find', [...cgroups, '-exec', 'rmdir', '{}', ';'], { reject: false });
    rmSync(rebooted.state, { recursive: true });
  }

  function killIfThere(pid: number): void {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended meanwhile
    }
  }

  const cgroupMembers = ({ cgroupParent }: TestNode) =>
    execFileSync('sh', ['-c', `cat $(find /sys/fs/cgroup -path '*${cgroupParent}/*' -name cgroup.procs)`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
      .split('\n')
      .filter(Boolean)
      .map(Number);

  /** Addresses that are reserved. */
  const addressesOf = (of: TestNode) =>
    everything(of).files.filter(path => /\/ipam\/.*\d+\.\d+\.\d+\.\d+$/.test(path));

  const mountsBelow = (prefix: string) =>
    execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' })
      .split('\n')
      .map(line => line.split(' ')[4] ?? '')
      .filter(path => path.startsWith(prefix))
      .reverse();

  it('old pods are NOTREADY, their containers exited, their addresses free; cleaning up leaves nothing', async () => {
    const pod = await node.runPod();
    const [running, created] = [
      await node.runContainer(pod, 'sleep 1000'),
      await node.createContainer(pod, 'true'),
    ];
    const exited = await node.runContainer(pod, 'exit 3');
    await node.untilExited(exited);
    await reboot(node);
    await node.start();

    expect(await podState(pod)).toBe('SANDBOX_NOTREADY');
    expect(await node.status(running)).toMatchObject({
      state: 'CONTAINER_EXITED',
      exitCode: 255,
      reason: 'Unknown',
    });
    expect(await node.status(exited)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 3 });
    expect((await node.status(created)).state).not.toBe('CONTAINER_RUNNING');
    await expect(node.cri.StartContainer({ containerId: created })).rejects.toThrow();
    await until('the addresses are free', () => (addressesOf(node).length === 0 ? true : undefined));

    // The node works: a pod with the old one's name must wait for its removal, another need not.
    const fresh = await node.runPod();
    expect((await node.output(fresh, 'echo up')).lines).toEqual(['up']);
    await node.cri.RemovePodSandbox({ podSandboxId: fresh });
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await untilAsBefore(node, before);
  });

  it('addresses are given back as they were taken, though conf_dir holds another configuration by now', async () => {
    const own = await startNode({
      plugins: { recorder: { ADD: passesOn } },
      cni: paths => ({
        '10-pods.conflist': network(paths, bridgeConf(paths), { note: 'of the first boot' }),
      }),
    });
    const pod = await own.runPod();
    expect(addressesOf(own)).toHaveLength(1);
    await reboot(own);
    rmSync(join(own.cniConfDir, '10-pods.conflist'));
    // The same network, in which nothing would free the address.
    const later = network(own, undefined, { note: 'of the second boot' });
    writeFileSync(join(own.cniConfDir, '20-pods.conflist'), JSON.stringify(later));
    await own.start();

    await until('the address is free', () => (addressesOf(own).length === 0 ? true : undefined));
    const calls = (await fakePluginCalls(own.pluginDir, pod)).map(({ verb, netns, config }) => ({
      verb,
      hasNetns: netns !== '',
      note: config.note,
      name: config.name,
    }));
    const asTaken = { note: 'of the first boot', name: own.bridge };
    expect(calls).toEqual([
      { verb: 'ADD', hasNetns: true, ...asTaken },
      { verb: 'DEL', hasNetns: false, ...asTaken },
    ]);
    await own.cri.RemovePodSandbox({ podSandboxId: pod });
    await own.destroy();
  });

  it('pods with two networks, a host port, a user namespace and volumes leave nothing either', async () => {
    const ids = [{ hostId: 400_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: 'POD' as const, uids: ids, gids: ids };
    const namespaceOptions = { pid: 'CONTAINER' as const, usernsOptions };
    const linux = { securityContext: { namespaceOptions } };
    const own = await startNode({
      config({ directory }) {
        chmodSync(directory, 0o711); // root of a pod is another user on the node, who must reach what is its own
        return '';
      },
      cni: paths => {
        const { cniVersion, name, ...bridge } = bridgeConf(paths);
        const { ipam } = bridgeConf({ ...paths, subnet: '10.84.2' });
        const portmap = { type: 'portmap', capabilities: { portMappings: true } };
        const second = { type: 'ptp', ipMasq: true, ipam };
        return {
          '10-first.conflist': { cniVersion, name, plugins: [bridge, portmap] },
          '20-second.conflist': { cniVersion, name: `${name}-2`, plugins: [second] },
        };
      },
    });
    await addImage(own, 'docker.io/test/volumes:latest', { Volumes: { '/var/www': {}, '/data/new': {} } });
    const intact = await afterOnePod(own);
    const pods = [
      await own.runPod({
        portMappings: [{ protocol: 'TCP', containerPort: 80, hostPort: 18_181, hostIp: '' }],
      }),
      await own.runPod({ linux }),
    ];
    const image = { image: { image: 'test/volumes:latest' } };
    const mounts = [{ containerPath: '/image', image: { image: 'test/busybox:latest' }, readonly: true }];
    const containers = [
      await own.runContainer(pods[0] ?? '', 'sleep 1000', { ...image, mounts }),
      await own.runContainer(pods[1] ?? '', 'sleep 1000', { linux }),
    ];
    expect(addressesOf(own)).toHaveLength(4);
    await reboot(own);
    await own.start();

    for (const podSandboxId of pods) {
      const { status } = await own.cri.PodSandboxStatus({ podSandboxId });
      expect(status?.state).toBe('SANDBOX_NOTREADY');
    }
    for (const id of containers) {
      expect(await own.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 255 });
    }
    await until('the addresses are free', () => addressesOf(own).length === 0 || undefined);
    await own.runPod(); // makes the bridge again
    await untilAsBefore(own, intact);
    await own.destroy();
  });

  function network({ bridge }: { bridge: string }, first: object | undefined, recorded: object) {
    const plugins = [...(first ? [first] : []), { type: 'recorder', ...recorded }];
    return { cniVersion: '1.0.0', name: bridge, plugins };
  }
});
