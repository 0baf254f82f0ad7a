// Sandboxes through the CRI: their life, what their status says, how they are found, and the files they give to containers.
import { existsSync, statSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { failureOf } from '../support/cri-client.ts';
import { expectUnchanged, tracesAfterAPod } from '../support/leftovers.ts';
import { bridgeConf, startNode, type TestNode, until, untilProgram } from '../support/node.ts';

const runtimes = 'plugins."io.containerd.cri.v1.runtime".containerd.runtimes';

let node: TestNode;
beforeAll(async () => {
  node = await startNode({
    config: ({ directory }) => `
[${runtimes}.second]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["second.example/*"]
  [${runtimes}.second.options]
    BinaryName = "runc"
    Root = "${directory}/second"
[${runtimes}.elsewhere]
  runtime_type = "io.containerd.runc.v2"
  cni_conf_dir = "${directory}/elsewhere.d"
[${runtimes}.absent]
  runtime_type = "io.containerd.runc.v2"
  [${runtimes}.absent.options]
    BinaryName = "/nonexistent/runc"
`,
  });
});
afterEach(() => node.removeAll());
afterAll(() => node.destroy());

async function statusOf(podSandboxId: string) {
  const { status } = await node.cri.PodSandboxStatus({ podSandboxId });
  if (!status) throw new Error(`no status of ${podSandboxId}`);
  return status;
}

async function infoOf(podSandboxId: string) {
  const { info } = await node.cri.PodSandboxStatus({ podSandboxId, verbose: true });
  return JSON.parse(info.info ?? '');
}

async function listed(filter: Parameters<TestNode['cri']['ListPodSandbox']>[0]): Promise<string[]> {
  const { items } = await node.cri.ListPodSandbox(filter);
  return items.map(({ id }) => id);
}

describe('RunPodSandbox', () => {
  it('binds a network namespace under /var/run/netns, named cni-<uuid>', async () => {
    const pod = await node.runPod();
    const { netNamespace } = await infoOf(pod);
    expect(netNamespace).toMatch(/^\/var\/run\/netns\/cni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(node.snapshot().netns).toEqual([netNamespace.slice('/var/run/netns/'.length)]);
    const container = await node.runContainer(pod, 'sleep 1000');
    expect(await node.exec(container, 'readlink /proc/self/ns/net')).toBe(
      `net:[${statSync(netNamespace, { bigint: true }).ino}]`,
    );
  });

  it('makes a pod that is READY, with its metadata, labels and annotations as they were given', async () => {
    const began = BigInt(Date.now() - 1) * 1_000_000n;
    const metadata = { name: 'web', namespace: 'shop', uid: 'uid-1', attempt: 3 };
    const labels = { app: 'web', 'example.com/tier': 'front' };
    const annotations = { 'example.com/note': 'a long way\nround' };
    const pod = await node.runPod({ metadata, labels, annotations });
    expect(pod).toMatch(/^[0-9a-f]{64}$/);
    const status = await statusOf(pod);
    expect(status).toMatchObject({
      id: pod,
      state: 'SANDBOX_READY',
      metadata,
      labels,
      annotations,
      runtimeHandler: '',
      linux: { namespaces: { options: { network: 'POD', pid: 'POD', ipc: 'POD' } } },
    });
    const made = BigInt(status.createdAt);
    expect(made >= began && made <= BigInt(Date.now()) * 1_000_000n).toBe(true);
    const { items } = await node.cri.ListPodSandbox();
    expect(items).toEqual([
      {
        id: pod,
        state: 'SANDBOX_READY',
        metadata,
        labels,
        annotations,
        createdAt: status.createdAt,
        runtimeHandler: '',
      },
    ]);
  });

  it('puts pause and containers below the cgroup parent', async () => {
    const cgroupParent = `${node.cgroupParent}/pod-of-kubelet`;
    const pod = await node.runPod({ linux: { cgroupParent } });
    const container = await node.runContainer(pod, 'sleep 1000');
    const { pid } = await infoOf(pod);
    const cgroup = await readFile(`/proc/${pid}/cgroup`, 'utf8');
    expect(cgroup).toContain(`:${cgroupParent}/${pod}\n`);
    const { cgroups } = node.snapshot();
    expect(cgroups.some(path => path.endsWith(`${cgroupParent}/${container}`))).toBe(true);
  });

  it('makes the log directory', async () => {
    const logDirectory = join(node.directory, 'pod-logs', 'of', 'a pod');
    await node.runPod({ logDirectory });
    expect(statSync(logDirectory).isDirectory()).toBe(true);
    await node.removeAll();
    expect(existsSync(logDirectory)).toBe(true); // kubelet's, with the logs in it
  });

  it('runs eight pods at once, each with an address of its own', async () => {
    const before = await tracesAfterAPod(node);
    const pods = await Promise.all(Array.from({ length: 8 }, () => node.runPod()));
    const statuses = await Promise.all(pods.map(statusOf));
    expect(new Set(statuses.map(({ network }) => network?.ip)).size).toBe(8);
    expect(statuses.every(({ state }) => state === 'SANDBOX_READY')).toBe(true);
    await Promise.all(pods.map(podSandboxId => node.cri.StopPodSandbox({ podSandboxId })));
    await Promise.all(pods.map(podSandboxId => node.cri.RemovePodSandbox({ podSandboxId })));
    await expectUnchanged(node, before);
  });
});

describe('the name of a pod', () => {
  const metadata = { name: 'only', namespace: 'one', uid: 'holder', attempt: 0 };

  it('is refused to a second sandbox, naming the one that holds it', async () => {
    const pod = await node.runPod({ metadata });
    const { code, details } = await failureOf(node.runPod({ metadata }));
    expect(code).toBe(grpc.ALREADY_EXISTS);
    expect(details).toContain('only_one_holder_0');
    expect(details).toContain(pod);
    expect(await listed({})).toEqual([pod]);
  });

  it('is held until the sandbox is removed, not only stopped', async () => {
    const pod = await node.runPod({ metadata });
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    expect((await failureOf(node.runPod({ metadata }))).code).toBe(grpc.ALREADY_EXISTS);
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    const next = await node.runPod({ metadata });
    expect(next).not.toBe(pod);
  });

  it('goes to exactly one of those who ask at once', async () => {
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => node.runPod({ metadata })));
    const won = results.filter(({ status }) => status === 'fulfilled');
    const lost = results.filter(result => result.status === 'rejected');
    expect(won).toHaveLength(1);
    expect(lost.map(({ reason }) => reason.code)).toEqual(Array(4).fill(grpc.ALREADY_EXISTS));
    expect(await listed({})).toHaveLength(1);
  });

  it('differs by attempt, uid and namespace', async () => {
    await node.runPod({ metadata });
    await node.runPod({ metadata: { ...metadata, attempt: 1 } });
    await node.runPod({ metadata: { ...metadata, uid: 'other' } });
    await node.runPod({ metadata: { ...metadata, namespace: 'other' } });
    expect(await listed({})).toHaveLength(4);
  });

  it('differs where only the place of an underscore does', async () => {
    await node.runPod({ metadata: { name: 'a_b', namespace: 'c', uid: 'u', attempt: 0 } });
    await node.runPod({ metadata: { name: 'a', namespace: 'b_c', uid: 'u', attempt: 0 } });
    expect(await listed({})).toHaveLength(2);
  });
});

describe('StopPodSandbox', () => {
  it('ends the containers, takes the network away, and keeps the sandbox listed as NOTREADY', async () => {
    const pod = await node.runPod();
    const container = await node.runContainer(pod, 'sleep 1000');
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    expect(await node.status(container)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 137 });
    const status = await statusOf(pod);
    expect(status.state).toBe('SANDBOX_NOTREADY');
    expect(status.network).toMatchObject({ ip: '', additionalIps: [] });
    expect(await infoOf(pod)).toMatchObject({ pid: 0, netNamespaceClosed: true, cniResult: [] });
    expect((await infoOf(pod)).owed).toEqual(['reserve name', 'record']);
    const { netns, links } = node.snapshot();
    expect({ netns, veths: links.filter(link => link.startsWith('veth')) }).toEqual({ netns: [], veths: [] });
  });

  it('may be repeated, also at once', async () => {
    const pod = await node.runPod();
    await Promise.all([1, 2, 3].map(() => node.cri.StopPodSandbox({ podSandboxId: pod })));
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    expect((await statusOf(pod)).state).toBe('SANDBOX_NOTREADY');
  });

  it('succeeds for an unknown id, and refuses an empty one', async () => {
    await node.cri.StopPodSandbox({ podSandboxId: 'f00d'.repeat(16) });
    expect((await failureOf(node.cri.StopPodSandbox({ podSandboxId: '' }))).code).toBe(grpc.INVALID_ARGUMENT);
  });

  it('leaves no room for further containers', async () => {
    const pod = await node.runPod();
    const created = await node.createContainer(pod, 'true');
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    const create = await failureOf(node.createContainer(pod, 'true'));
    expect(create.code).toBe(grpc.FAILED_PRECONDITION);
    expect(create.details).toContain(pod);
    const start = await failureOf(node.cri.StartContainer({ containerId: created }));
    expect(start.code).toBe(grpc.FAILED_PRECONDITION);
    expect(start.details).toContain(pod);
  });
});

describe('RemovePodSandbox', () => {
  it('stops and removes a running pod with its containers, and leaves nothing', async () => {
    const before = await tracesAfterAPod(node);
    const pod = await node.runPod();
    const running = await node.runContainer(pod, 'sleep 1000');
    await node.createContainer(pod, 'true');
    const { pid } = await infoOf(pod);
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    expect((await failureOf(node.cri.PodSandboxStatus({ podSandboxId: pod }))).code).toBe(grpc.NOT_FOUND);
    expect((await failureOf(node.status(running))).code).toBe(grpc.NOT_FOUND);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect((await node.cri.ListContainers()).containers).toEqual([]);
    await expectUnchanged(node, before);
  });

  it('may be repeated, also at once, and succeeds for an unknown id', async () => {
    const pod = await node.runPod();
    await Promise.all([1, 2, 3].map(() => node.cri.RemovePodSandbox({ podSandboxId: pod })));
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await node.cri.RemovePodSandbox({ podSandboxId: 'f00d'.repeat(16) });
    expect(await listed({})).toEqual([]);
  });
});

describe('a sandbox is found', () => {
  it('by its id and by a prefix that fits no other', async () => {
    const pod = await node.runPod();
    expect((await statusOf(pod.slice(0, 12))).id).toBe(pod);
    await node.cri.StopPodSandbox({ podSandboxId: pod.slice(0, 12) });
    expect((await statusOf(pod)).state).toBe('SANDBOX_NOTREADY');
    await node.cri.RemovePodSandbox({ podSandboxId: pod.slice(0, 12) });
    expect(await listed({})).toEqual([]);
  });

  it('not by a prefix that fits two', async () => {
    // Seventeen ids of sixteen digits: two begin alike.
    const pods = await Promise.all(
      Array.from({ length: 17 }, () =>
        node.runPod({ linux: { securityContext: { namespaceOptions: { network: 'NODE' } } } }),
      ),
    );
    const first = pods.map(id => id.slice(0, 1)).find((digit, i, all) => all.indexOf(digit) !== i) ?? '';
    for (const attempt of [
      node.cri.PodSandboxStatus({ podSandboxId: first }),
      node.cri.StopPodSandbox({ podSandboxId: first }),
      node.cri.RemovePodSandbox({ podSandboxId: first }),
      node.createContainer(first, 'true'),
    ]) {
      const { code, details } = await failureOf(attempt);
      expect(code).toBe(grpc.INVALID_ARGUMENT);
      expect(details).toContain(`sandbox id ${first} fits`);
    }
    expect(await listed({ filter: { state: { state: 'SANDBOX_READY' } } })).toHaveLength(17);
  });

  it('not when it is unknown: NOT_FOUND names the id', async () => {
    const { code, details } = await failureOf(node.cri.PodSandboxStatus({ podSandboxId: 'f00d' }));
    expect(code).toBe(grpc.NOT_FOUND);
    expect(details).toContain('sandbox f00d');
    expect((await failureOf(node.cri.PodSandboxStatus({}))).code).toBe(grpc.INVALID_ARGUMENT);
  });

  it('in lists by id, prefix, state and labels, all of which must fit', async () => {
    const web = await node.runPod({ labels: { app: 'web', tier: 'front' } });
    const db = await node.runPod({ labels: { app: 'db', tier: 'back' } });
    const old = await node.runPod({ labels: { app: 'web', tier: 'back' } });
    await node.cri.StopPodSandbox({ podSandboxId: old });

    expect(await listed({})).toEqual([web, db, old]);
    expect(await listed({ filter: { id: web } })).toEqual([web]);
    expect(await listed({ filter: { id: db.slice(0, 13) } })).toEqual([db]);
    expect(await listed({ filter: { id: 'f00d'.repeat(16) } })).toEqual([]);
    expect(await listed({ filter: { state: { state: 'SANDBOX_READY' } } })).toEqual([web, db]);
    expect(await listed({ filter: { state: { state: 'SANDBOX_NOTREADY' } } })).toEqual([old]);
    expect(await listed({ filter: { labelSelector: { app: 'web' } } })).toEqual([web, old]);
    expect(await listed({ filter: { labelSelector: { app: 'web', tier: 'back' } } })).toEqual([old]);
    expect(await listed({ filter: { labelSelector: { app: 'none' } } })).toEqual([]);
    const readyWeb = { state: { state: 'SANDBOX_READY' }, labelSelector: { app: 'web' } } as const;
    expect(await listed({ filter: readyWeb })).toEqual([web]);
    expect(await listed({ filter: { ...readyWeb, id: db } })).toEqual([]);

    const streamed: string[] = [];
    for await (const { podSandboxes } of node.cri.stream('StreamPodSandboxes', { filter: readyWeb })) {
      streamed.push(...podSandboxes.map(({ id }) => id));
    }
    expect(streamed).toEqual([web]);
  });

  it('in lists in the order of creation, also after a restart of the daemon', async () => {
    const pods: string[] = [];
    for (let i = 0; i < 4; i++) pods.push(await node.runPod());
    await node.stop();
    await node.start();
    expect(await listed({})).toEqual(pods);
  });
});

describe('the pause process', () => {
  it('that is killed leaves a sandbox NOTREADY, whose removal leaves nothing', async () => {
    const before = await tracesAfterAPod(node);
    const pod = await node.runPod();
    const { pid } = await infoOf(pod);
    process.kill(pid, 'SIGKILL');
    await until('the sandbox is NOTREADY', async () =>
      (await statusOf(pod)).state === 'SANDBOX_NOTREADY' ? true : undefined,
    );
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await expectUnchanged(node, before);
  });
});

describe('the events of a sandbox', () => {
  /** Events of this pod as `TYPE state`, until the stream is cancelled. */
  function listen(): { seen: string[]; of: Set<string>; cancel(): void } {
    const events = node.cri.stream('GetContainerEvents');
    const seen: string[] = [];
    const of = new Set<string>();
    const drain = async () => {
      for await (const { containerId, containerEventType, podSandboxStatus } of events) {
        of.add(containerId);
        seen.push(`${containerEventType} ${podSandboxStatus?.state ?? 'gone'}`);
      }
    };
    void drain().catch(() => {});
    return { seen, of, cancel: () => events.cancel() };
  }

  it('tell that it was created, started, stopped and deleted, with its state then', async () => {
    const events = listen();
    await node.cri.Version(); // the stream's request has been read
    const pod = await node.runPod();
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await Promise.all([1, 2].map(() => node.cri.RemovePodSandbox({ podSandboxId: pod })));
    await failureOf(node.runPod({ hostname: 'h'.repeat(65) }));
    await until('all events came', () => events.seen.length >= 4 || undefined);
    events.cancel();
    expect(events.seen).toEqual([
      'CONTAINER_CREATED_EVENT SANDBOX_READY',
      'CONTAINER_STARTED_EVENT SANDBOX_READY',
      'CONTAINER_STOPPED_EVENT SANDBOX_NOTREADY',
      'CONTAINER_DELETED_EVENT gone',
    ]);
    expect([...events.of]).toEqual([pod]);
  });

  it('tell of a pause process that was killed', async () => {
    const pod = await node.runPod();
    const events = listen();
    await node.cri.Version();
    process.kill((await infoOf(pod)).pid, 'SIGKILL');
    await until('the event came', () => events.seen.length >= 1 || undefined);
    events.cancel();
    expect(events.seen).toEqual(['CONTAINER_STOPPED_EVENT SANDBOX_NOTREADY']);
  });
});

describe('the security of pause', () => {
  it('is that of the pod: its user, its seccomp profile; and it has no capability', async () => {
    const securityContext = {
      runAsUser: { value: '1234' },
      runAsGroup: { value: '5678' },
      supplementalGroups: ['4321'],
      seccomp: { profileType: 'RuntimeDefault' as const },
    };
    const pod = await node.runPod({ linux: { securityContext } });
    const { pid, runtimeSpec } = await infoOf(pod);
    await untilProgram(pid);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    expect(status).toMatch(/^Uid:\t1234\t/m);
    expect(status).toMatch(/^Gid:\t5678\t/m);
    expect(status).toMatch(/^Groups:\t.*\b4321\b/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(runtimeSpec.linux.seccomp.defaultAction).toBe('SCMP_ACT_ERRNO');
  });

  it('is a nobody without a filter when the pod says nothing', async () => {
    const { pid } = await infoOf(await node.runPod());
    await untilProgram(pid);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    expect(status).toMatch(/^Uid:\t65535\t/m);
    expect(status).toMatch(/^Seccomp:\t0$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
  });
});

describe('verbose status', () => {
  it('tells the pid, the runtime spec, the CNI result and the times of the steps', async () => {
    const pod = await node.runPod({ hostname: 'inspected' });
    const info = await infoOf(pod);
    await untilProgram(info.pid);
    const comm = await readFile(`/proc/${info.pid}/comm`, 'utf8');
    expect(comm.trim()).toMatch(/^(pause|catatonit)/);
    expect(info.runtimeSpec).toMatchObject({
      hostname: 'inspected',
      annotations: { 'io.kubernetes.cri.sandbox-id': pod },
    });
    expect(info.cniResult).toMatchObject([
      {
        network: node.bridge,
        ifName: 'eth0',
        result: { ips: [{ address: expect.stringContaining(node.subnet) }] },
      },
    ]);
    expect(info.runtimeHandler).toBe('runc');
    expect(Object.keys(info.steps)).toEqual(
      expect.arrayContaining(['network namespace', 'network (CNI ADD)', 'pause container (runc run)']),
    );
  });

  it('is not given to those who did not ask', async () => {
    const { info } = await node.cri.PodSandboxStatus({ podSandboxId: await node.runPod() });
    expect(info).toEqual({});
  });
});

describe('a runtime handler', () => {
  it('other than the default runs pods with its own root and annotations, and is echoed', async () => {
    const annotations = { 'second.example/a': 'passed', 'other.example/a': 'kept back' };
    const pod = await node.runPod({ annotations }, 'second');
    expect((await statusOf(pod)).runtimeHandler).toBe('second');
    expect((await node.cri.ListPodSandbox()).items.map(item => item.runtimeHandler)).toEqual(['second']);
    expect(existsSync(join(node.directory, 'second', pod))).toBe(true);
    const { runtimeHandler, runtimeSpec } = await infoOf(pod);
    expect(runtimeHandler).toBe('second');
    expect(runtimeSpec.annotations).toMatchObject({ 'second.example/a': 'passed' });
    expect(runtimeSpec.annotations).not.toHaveProperty('other.example/a');
    const container = await node.runContainer(pod, 'sleep 1000');
    expect(existsSync(join(node.directory, 'second', container))).toBe(true);
    await node.removeAll();
    expect(existsSync(join(node.directory, 'second', pod))).toBe(false);
  });

  it('named explicitly is echoed though it is the default', async () => {
    expect((await statusOf(await node.runPod({}, 'runc'))).runtimeHandler).toBe('runc');
  });

  it('that is not configured is refused, naming those that are', async () => {
    const before = await tracesAfterAPod(node);
    const { code, details } = await failureOf(node.runPod({ metadata: { name: 'lost' } }, 'kata'));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    for (const word of ['kata', 'lost', 'runc', 'second']) expect(details).toContain(word);
    await expectUnchanged(node, before);
  });

  it('whose executable is missing fails its pods and no others, and leaves nothing', async () => {
    const before = await tracesAfterAPod(node);
    const { code, details } = await failureOf(node.runPod({}, 'absent'));
    expect(code).toBe(grpc.UNKNOWN);
    expect(details).toContain('/nonexistent/runc');
    await expectUnchanged(node, before);
    await node.runPod();
  });

  it('with a CNI directory of its own attaches its pods there', async () => {
    const { code, details } = await failureOf(node.runPod({}, 'elsewhere'));
    expect(code).toBe(grpc.UNKNOWN);
    expect(details).toContain(`${node.directory}/elsewhere.d`);
    const directory = join(node.directory, 'elsewhere.d');
    await mkdir(directory);
    const subnet = `${node.subnet.replace('10.83', '10.84')}`;
    const conf = bridgeConf({ directory: node.directory, bridge: `e${node.bridge}`.slice(0, 15), subnet });
    await writeFile(join(directory, '10-else.conf'), JSON.stringify(conf));
    const pod = await until('the new directory is seen', () =>
      node.runPod({}, 'elsewhere').catch(() => undefined),
    );
    expect((await statusOf(pod)).network?.ip).toContain(`${subnet}.`);
    await node.removeAll();
    await rm(directory, { recursive: true });
    await execa('ip', ['link', 'delete', `e${node.bridge}`.slice(0, 15)]);
  });
});

describe('in the containers of a pod', () => {
  it('the hostname is the pod’s', async () => {
    const pod = await node.runPod({ hostname: 'web-0' });
    const { lines } = await node.output(pod, 'hostname; cat /etc/hostname; echo $HOSTNAME');
    expect(lines).toEqual(['web-0', 'web-0', 'web-0']);
  });

  it('the hostname is the host’s when the pod has none', async () => {
    const { lines } = await node.output(await node.runPod(), 'hostname; cat /etc/hostname; echo $HOSTNAME');
    expect(lines).toEqual([hostname(), hostname(), hostname()]);
  });

  it('/etc/resolv.conf is made of the DNSConfig', async () => {
    const dnsConfig = {
      servers: ['10.96.0.10', 'fd00::10'],
      searches: ['shop.svc.cluster.local', 'svc.cluster.local'],
      options: ['ndots:5', 'edns0'],
    };
    const { lines } = await node.output(await node.runPod({ dnsConfig }), 'cat /etc/resolv.conf');
    expect(lines).toEqual([
      'search shop.svc.cluster.local svc.cluster.local',
      'nameserver 10.96.0.10',
      'nameserver fd00::10',
      'options ndots:5 edns0',
    ]);
  });

  it('/etc/resolv.conf is the host’s when there is no DNSConfig, or an empty one', async () => {
    const host = (await readFile('/etc/resolv.conf', 'utf8').catch(() => '')).trim();
    for (const over of [{}, { dnsConfig: { servers: [], searches: [], options: [] } }]) {
      const container = await node.runContainer(await node.runPod(over), 'sleep 1000');
      expect(await node.exec(container, 'cat /etc/resolv.conf')).toBe(host);
    }
  });

  it('/etc/hosts is a copy of the host’s, shared between the containers', async () => {
    const host = (await readFile('/etc/hosts', 'utf8')).trim();
    const pod = await node.runPod();
    const [one, two] = [
      await node.runContainer(pod, 'sleep 1000'),
      await node.runContainer(pod, 'sleep 1000'),
    ];
    expect(await node.exec(one, 'cat /etc/hosts')).toBe(host);
    await node.exec(one, 'echo 10.0.0.1 added >> /etc/hosts');
    expect(await node.exec(two, 'tail -n1 /etc/hosts')).toBe('10.0.0.1 added');
    expect((await readFile('/etc/hosts', 'utf8')).trim()).toBe(host);
  });

  it('/dev/shm is a tmpfs of 64 MB that the containers share', async () => {
    const pod = await node.runPod();
    const [one, two] = [
      await node.runContainer(pod, 'sleep 1000'),
      await node.runContainer(pod, 'sleep 1000'),
    ];
    expect(await node.exec(one, "df -k /dev/shm | awk 'NR == 2 { print $1, $2 }'")).toBe('shm 65536');
    expect(await node.exec(one, 'stat -c %a /dev/shm')).toBe('1777');
    await node.exec(one, 'echo between us > /dev/shm/note');
    expect(await node.exec(two, 'cat /dev/shm/note')).toBe('between us');
    const other = await node.runContainer(await node.runPod(), 'sleep 1000');
    expect(await node.exec(other, 'ls /dev/shm')).toBe('');
  });

  it('low ports and ping need no privilege', async () => {
    const container = await node.runContainer(await node.runPod(), 'sleep 1000');
    expect(
      await node.exec(container, 'cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range'),
    ).toBe('0\n0\t2147483647');
  });

  it('the sysctls of the pod are set, of net and of ipc', async () => {
    const sysctls = { 'net.ipv4.ip_local_port_range': '20000 30000', 'kernel.msgmax': '9000' };
    const pod = await node.runPod({ linux: { sysctls } });
    const container = await node.runContainer(pod, 'sleep 1000');
    const read = 'cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/msgmax';
    expect(await node.exec(container, read)).toBe('20000\t30000\n9000');
    expect((await readFile('/proc/sys/kernel/msgmax', 'utf8')).trim()).not.toBe('9000');
  });
});
