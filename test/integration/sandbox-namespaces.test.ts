// The namespaces of a pod, as its processes see them: every combination of NODE, POD, CONTAINER and TARGET that a
// kubelet can ask for.
import { readlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { NamespaceMode, NamespaceOption, PodSandboxConfig } from '../../src/cri-api/types.ts';
import { failureOf } from '../support/cri-client.ts';
import { expectUnchanged, tracesAfterAPod, tracesOf } from '../support/leftovers.ts';
import { startNode, type TestNode } from '../support/node.ts';

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterEach(() => node.removeAll());
afterAll(() => node.destroy());

const kinds = ['net', 'uts', 'ipc', 'pid', 'mnt'] as const;
type Kind = (typeof kinds)[number];
type Namespaces = Record<Kind, string>;

const inNamespaces = (namespaceOptions: Loose<NamespaceOption>, over: Loose<PodSandboxConfig> = {}) => ({
  ...over,
  linux: { ...over.linux, securityContext: { namespaceOptions } },
});

function ofProcess(pid: number | 'self'): Namespaces {
  const entries = kinds.map(kind => [kind, readlinkSync(`/proc/${pid}/ns/${kind}`)]);
  return Object.fromEntries(entries);
}

async function ofContainer(id: string): Promise<Namespaces> {
  const links = await node.exec(id, kinds.map(kind => `readlink /proc/self/ns/${kind}`).join('; '));
  return Object.fromEntries(links.split('\n').map((link, i) => [kinds[i], link])) as Namespaces;
}

async function infoOf(podSandboxId: string) {
  const { info } = await node.cri.PodSandboxStatus({ podSandboxId, verbose: true });
  return JSON.parse(info.info ?? '');
}

const sleeper = (pod: string, namespaceOptions: Loose<NamespaceOption>) =>
  node.runContainer(pod, 'sleep 1000', { linux: { securityContext: { namespaceOptions } } });

describe('the namespaces of a pod', () => {
  const networks: NamespaceMode[] = ['POD', 'NODE'];
  const ipcs: NamespaceMode[] = ['POD', 'NODE'];
  const pids: NamespaceMode[] = ['CONTAINER', 'POD', 'NODE'];
  const all = networks.flatMap(network => ipcs.flatMap(ipc => pids.map(pid => ({ network, ipc, pid }))));

  it.each(all)('are network $network, ipc $ipc, pid $pid when it asks for that', async options => {
    const pod = await node.runPod(inNamespaces(options));
    const { status } = await node.cri.PodSandboxStatus({ podSandboxId: pod });
    expect(status?.linux?.namespaces?.options).toMatchObject(options);
    const [one, two] = [await sleeper(pod, options), await sleeper(pod, options)];
    const host = ofProcess('self');
    const pause = ofProcess((await infoOf(pod)).pid);
    const [first, second] = [await ofContainer(one), await ofContainer(two)];

    // Network and UTS go together: a pod on the node's network has the node's name.
    for (const [kind, mode] of [
      ['net', options.network],
      ['uts', options.network],
      ['ipc', options.ipc],
    ] as const) {
      expect({ kind, ns: first[kind] }).toEqual({ kind, ns: pause[kind] });
      expect({ kind, ns: second[kind] }).toEqual({ kind, ns: pause[kind] });
      expect({ kind, isHost: first[kind] === host[kind] }).toEqual({ kind, isHost: mode === 'NODE' });
    }
    expect(pause.pid === host.pid).toBe(options.pid === 'NODE');
    expect(first.pid === host.pid).toBe(options.pid === 'NODE');
    expect(first.pid === pause.pid).toBe(options.pid !== 'CONTAINER');
    expect(first.pid === second.pid).toBe(options.pid !== 'CONTAINER');
    expect(new Set([host.mnt, pause.mnt, first.mnt, second.mnt]).size).toBe(4);
  });
});

describe('a pod of network NODE', () => {
  it('has the host’s interfaces and name, no address, and no namespace under /var/run/netns', async () => {
    const before = await tracesOf(node);
    const pod = await node.runPod(inNamespaces({ network: 'NODE' }));
    const { status } = await node.cri.PodSandboxStatus({ podSandboxId: pod });
    expect(status?.network).toMatchObject({ ip: '', additionalIps: [] });
    expect(await infoOf(pod)).toMatchObject({ netNamespace: null, cniResult: [] });
    const container = await sleeper(pod, { network: 'NODE' });
    expect(await node.exec(container, 'hostname; cat /etc/hostname')).toBe(`${hostname()}\n${hostname()}`);
    const { netns, links } = node.snapshot();
    expect((await node.exec(container, 'ls /sys/class/net')).split('\n').sort()).toEqual([...links].sort());
    expect({ netns, links }).toEqual({ netns: before.netns, links: before.links });
  });

  it('runs also where no network is configured', async () => {
    const bare = await startNode({ cni: {}, busybox: false });
    try {
      const pod = await bare.runPod(inNamespaces({ network: 'NODE' }));
      const { status } = await bare.cri.PodSandboxStatus({ podSandboxId: pod });
      expect(status?.state).toBe('SANDBOX_READY');
    } finally {
      await bare.destroy();
    }
  });

  it('may not set sysctls of the network, and the refusal leaves nothing', async () => {
    const before = await tracesAfterAPod(node);
    const sysctls = { 'net.ipv4.ip_forward': '1' };
    const over = inNamespaces({ network: 'NODE' }, { metadata: { name: 'greedy' }, linux: { sysctls } });
    const { code, details } = await failureOf(node.runPod(over));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('greedy');
    expect(details).toContain('net.ipv4.ip_forward');
    await expectUnchanged(node, before);
  });

  it('keeps the host’s own ping range and port start', async () => {
    const read = async (file: string) => (await readFile(`/proc/sys/net/ipv4/${file}`, 'utf8')).trim();
    const before = [await read('ip_unprivileged_port_start'), await read('ping_group_range')];
    await node.runPod(inNamespaces({ network: 'NODE' }));
    expect([await read('ip_unprivileged_port_start'), await read('ping_group_range')]).toEqual(before);
  });
});

describe('a pod of ipc NODE', () => {
  it('has the host’s /dev/shm, which its removal leaves mounted', async () => {
    const pod = await node.runPod(inNamespaces({ ipc: 'NODE' }));
    const container = await sleeper(pod, { ipc: 'NODE' });
    const host = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter(isShm).at(-1);
    const inside = (await node.exec(container, 'cat /proc/self/mountinfo')).split('\n').filter(isShm).at(-1);
    expect(deviceOf(inside)).toBe(deviceOf(host));
    await node.removeAll();
    expect((await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter(isShm).at(-1)).toBe(host);
  });

  it('may not set sysctls of ipc', async () => {
    const { code, details } = await failureOf(
      node.runPod(inNamespaces({ ipc: 'NODE' }, { linux: { sysctls: { 'kernel.shmmax': '1' } } })),
    );
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('kernel.shmmax');
  });
});

const isShm = (line: string) => line.split(' ')[4] === '/dev/shm';
const deviceOf = (line: string | undefined) => line?.split(' ')[2];

describe('a pod of pid POD', () => {
  it('has pause as its first process, and its containers see each other', async () => {
    const pod = await node.runPod(inNamespaces({ pid: 'POD' }));
    const one = await node.runContainer(pod, 'exec sleep 1111', {
      linux: { securityContext: { namespaceOptions: { pid: 'POD' } } },
    });
    const two = await sleeper(pod, { pid: 'POD' });
    const processes = (await node.exec(two, 'ps -o pid,args')).split('\n').map(line => line.trim());
    expect(processes.find(line => line.startsWith('1 '))).toMatch(/\/pause|catatonit/);
    expect(processes.some(line => line.endsWith('sleep 1111'))).toBe(true);
    expect(await node.exec(one, 'kill -0 1; echo $?')).toBe('0');
  });

  it('goes wholly when it is stopped, with processes that its containers left behind', async () => {
    const before = await tracesAfterAPod(node);
    const pod = await node.runPod(inNamespaces({ pid: 'POD' }));
    const container = await node.runContainer(pod, 'setsid sleep 2222 & exec sleep 1', {
      linux: { securityContext: { namespaceOptions: { pid: 'POD' } } },
    });
    await node.untilExited(container);
    await node.removeAll();
    await expectUnchanged(node, before);
  });
});

describe('a pod of pid CONTAINER', () => {
  it('lets each container be process 1 and see none but its own', async () => {
    const pod = await node.runPod(inNamespaces({ pid: 'CONTAINER' }));
    await node.runContainer(pod, 'exec sleep 1111', {
      linux: { securityContext: { namespaceOptions: { pid: 'CONTAINER' } } },
    });
    const two = await sleeper(pod, { pid: 'CONTAINER' });
    const processes = await node.exec(two, 'ps -o pid,args');
    expect(processes).not.toContain('sleep 1111');
    expect(processes).toMatch(/^ *1 (sh -c )?.*sleep 1000$/m);
  });
});

describe('a container of pid TARGET', () => {
  const own = { pid: 'CONTAINER' } as const;

  it('sees the processes of the container it names, by id or by prefix', async () => {
    const pod = await node.runPod(inNamespaces(own));
    const target = await sleeper(pod, own);
    for (const targetId of [target, target.slice(0, 16)]) {
      const debug = await sleeper(pod, { pid: 'TARGET', targetId });
      const [its, targets] = [await ofContainer(debug), await ofContainer(target)];
      expect(its).toEqual({ ...targets, mnt: its.mnt });
      expect(its.mnt).not.toBe(targets.mnt);
    }
  });

  it.each([
    ['names none', async () => ''],
    ['names an unknown one', async () => 'f00d'],
    [
      'names one that has exited',
      async (pod: string) => {
        const { status } = await node.output(pod, 'true', {
          linux: { securityContext: { namespaceOptions: own } },
        });
        return status.id;
      },
    ],
    ['names one that was not started', (pod: string) => node.createContainer(pod, 'true')],
    ['names one of another pod', async () => sleeper(await node.runPod(inNamespaces(own)), own)],
  ])('is refused when it %s', async (_, targetOf) => {
    const pod = await node.runPod(inNamespaces(own));
    const targetId = await targetOf(pod);
    const { code, details } = await failureOf(sleeper(pod, { pid: 'TARGET', targetId }));
    expect([grpc.INVALID_ARGUMENT, grpc.NOT_FOUND]).toContain(code);
    expect(details).toContain(`"${targetId}"`);
  });
});
