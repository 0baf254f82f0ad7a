// The life of a container through the CRI: create, start, list, status, remove; what repeats and what is refused.

import { existsSync } from 'node:fs';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { identify, isAlive } from '../../src/host/process-watch.ts';
import { cgroupDirectory, inspect, keptOfContainers } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
});
afterAll(() => node.destroy());
beforeEach(async () => {
  await node.removeAll();
  pod = await node.runPod();
});

const idsOf = async (filter: Parameters<TestNode['cri']['ListContainers']>[0] = {}) =>
  (await node.cri.ListContainers(filter)).containers.map(({ id }) => id);

describe('a container', () => {
  it('is CREATED, then RUNNING, then EXITED, with times in that order', async () => {
    const id = await node.createContainer(pod, 'exec sleep 1000');
    const created = await node.status(id);
    expect(created).toMatchObject({
      state: 'CONTAINER_CREATED',
      startedAt: '0',
      finishedAt: '0',
      reason: '',
    });
    expect(BigInt(created.createdAt)).toBeGreaterThan(0n);

    await node.cri.StartContainer({ containerId: id });
    const running = await node.status(id);
    expect(running).toMatchObject({
      state: 'CONTAINER_RUNNING',
      finishedAt: '0',
      createdAt: created.createdAt,
    });
    expect(BigInt(running.startedAt)).toBeGreaterThanOrEqual(BigInt(running.createdAt));

    await node.cri.StopContainer({ containerId: id, timeout: 10 });
    const ended = await node.status(id);
    expect(ended).toMatchObject({ state: 'CONTAINER_EXITED', startedAt: running.startedAt, exitCode: 143 });
    expect(BigInt(ended.finishedAt)).toBeGreaterThanOrEqual(BigInt(ended.startedAt));
  });

  it('that ends at once has started before it finished', async () => {
    for (let i = 0; i < 5; i++) {
      const { status } = await node.output(pod, 'true');
      expect(BigInt(status.startedAt)).toBeGreaterThanOrEqual(BigInt(status.createdAt));
      expect(BigInt(status.finishedAt)).toBeGreaterThanOrEqual(BigInt(status.startedAt));
    }
  });

  it('cannot be started twice, nor again after its end', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    expect(await failureOf(node.cri.StartContainer({ containerId: id }))).toEqual({
      code: grpc.FAILED_PRECONDITION,
      details: expect.stringContaining(`container ${id}`),
    });
    await node.cri.StopContainer({ containerId: id });
    expect((await failureOf(node.cri.StartContainer({ containerId: id }))).code).toBe(
      grpc.FAILED_PRECONDITION,
    );
    expect((await node.status(id)).state).toBe('CONTAINER_EXITED');
  });

  it('is started by one of two callers at once', async () => {
    const id = await node.createContainer(pod, 'exec sleep 1000');
    const both = await Promise.allSettled([
      node.cri.StartContainer({ containerId: id }),
      node.cri.StartContainer({ containerId: id }),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
  });

  it('of an unknown command fails to start with words, and can be removed', async () => {
    const id = await node.createContainer(pod, '', { command: ['/no/such/program', '--help'] });
    const { code, details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(code).toBe(grpc.UNKNOWN);
    expect(details).toContain(id);
    expect(details).toContain('/no/such/program');
    const status = await node.status(id);
    expect(status).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 128, reason: 'StartError' });
    expect(status.message).toContain('/no/such/program');
    expect(BigInt(status.finishedAt)).toBeGreaterThanOrEqual(BigInt(status.createdAt));
    await node.cri.RemoveContainer({ containerId: id });
    expect(await idsOf()).toEqual([]);
  });

  it('of a file that may not be executed fails to start', async () => {
    const id = await node.createContainer(pod, '', { command: ['/etc/passwd'] });
    const { details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(details).toMatch(/permission denied/i);
    expect(await node.status(id)).toMatchObject({ exitCode: 128, reason: 'StartError' });
  });

  it('cannot be started when its pod has been stopped', async () => {
    const id = await node.createContainer(pod, 'exec sleep 1000');
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    const { code, details } = await failureOf(node.cri.StartContainer({ containerId: id }));
    expect(code).toBe(grpc.FAILED_PRECONDITION);
    expect(details).toContain(pod);
    await node.cri.RemoveContainer({ containerId: id });
  });
});

describe('a start whose caller goes away', () => {
  it('is undone or has come through, and leaves nothing when the container is removed', async () => {
    const [host, kept] = [node.snapshot(), keptOfContainers(node)];
    for (const timeoutMs of [1, 10, 20, 30, 40, 60, 80]) {
      const containerId = await node.createContainer(pod, 'exec sleep 1000');
      const failure = await node.cri.StartContainer({ containerId }, { timeoutMs }).catch(error => error);
      const settled = await until('the start is over', async () => {
        const { state, reason } = await node.status(containerId);
        if (state === 'CONTAINER_RUNNING') return 'running';
        return reason === 'StartError' ? 'undone' : state === 'CONTAINER_CREATED' ? undefined : state;
      });
      if (!(failure instanceof Error)) expect(settled).toBe('running');
      expect(['running', 'undone']).toContain(settled);
      await node.cri.RemoveContainer({ containerId });
    }
    expect(await idsOf()).toEqual([]);
    expect(keptOfContainers(node)).toEqual(kept);
    expect(node.snapshot()).toEqual(host);
  });
});

describe('stopping and removing', () => {
  it('may be repeated, and may be asked of containers that never were', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    await node.cri.StopContainer({ containerId: id, timeout: 10 });
    const ended = await node.status(id);
    await node.cri.StopContainer({ containerId: id, timeout: 10 });
    expect(await node.status(id)).toEqual(ended);
    await node.cri.RemoveContainer({ containerId: id });
    await node.cri.RemoveContainer({ containerId: id });
    await node.cri.StopContainer({ containerId: id });
    await node.cri.RemoveContainer({ containerId: 'f'.repeat(64) });
    await node.cri.StopContainer({ containerId: 'f'.repeat(64) });
  });

  it('leaves a container that was only created as it is, when asked to stop it', async () => {
    const id = await node.createContainer(pod, 'true');
    await node.cri.StopContainer({ containerId: id, timeout: 1 });
    expect((await node.status(id)).state).toBe('CONTAINER_CREATED');
    await node.cri.StartContainer({ containerId: id });
    expect(await node.untilExited(id)).toMatchObject({ exitCode: 0 });
  });

  it('removes a created, a running and an exited container, with all that belongs to them', async () => {
    const [host, kept] = [node.snapshot(), keptOfContainers(node)];
    const created = await node.createContainer(pod, 'true');
    const exited = (await node.output(pod, 'true')).status.id;
    const running = await node.runContainer(pod, 'exec sleep 1000');
    const { pid, monitorPid } = await inspect(node, running);
    const cgroup = cgroupDirectory(pid, 'memory');
    expect([pid, monitorPid].map(one => identify(one) !== undefined)).toEqual([true, true]);
    await Promise.all(
      [created, exited, running].map(containerId => node.cri.RemoveContainer({ containerId })),
    );
    expect([pid, monitorPid].map(one => identify(one))).toEqual([undefined, undefined]);
    expect(existsSync(cgroup)).toBe(false);
    expect(await idsOf()).toEqual([]);
    expect(keptOfContainers(node)).toEqual(kept);
    expect(node.snapshot()).toEqual(host);
  });

  it('takes ten removals of one container at once', async () => {
    const containerId = await node.runContainer(pod, 'exec sleep 1000');
    await Promise.all(Array.from({ length: 10 }, () => node.cri.RemoveContainer({ containerId })));
    expect(await idsOf()).toEqual([]);
  });

  it('ends the processes that a container has left behind in the pod', async () => {
    const id = await node.runContainer(pod, 'sleep 4242 & exec sleep 1000');
    const { pid } = await inspect(node, id);
    const procs = node.snapshot().processes.filter(command => command.includes('sleep 4242'));
    expect(procs).toHaveLength(1);
    const first = identify(pid);
    await node.cri.StopContainer({ containerId: id, timeout: 5 });
    await node.cri.RemoveContainer({ containerId: id });
    expect(first && isAlive(first)).toBe(false);
    expect(node.snapshot().processes.filter(command => command.includes('sleep 4242'))).toEqual([]);
  });
});

describe('a name', () => {
  it('is reserved for one container until that is removed', async () => {
    const named = { metadata: { name: 'web', attempt: 0 } };
    const id = await node.createContainer(pod, 'true', named);
    const { code, details } = await failureOf(node.createContainer(pod, 'true', named));
    expect(code).toBe(grpc.ALREADY_EXISTS);
    expect(details).toContain(id);
    expect(details).toContain('web');
    await node.cri.RemoveContainer({ containerId: id });
    await node.createContainer(pod, 'true', named);
  });

  it('is shared by attempts, and by containers of other pods', async () => {
    const first = await node.runContainer(pod, 'exit 1', { metadata: { name: 'web', attempt: 0 } });
    await node.untilExited(first);
    const second = await node.runContainer(pod, 'exec sleep 1000', { metadata: { name: 'web', attempt: 1 } });
    const other = await node.runPod();
    await node.createContainer(other, 'true', { metadata: { name: 'web', attempt: 0 } });
    expect((await node.status(second)).metadata).toEqual({ name: 'web', attempt: 1 });
    expect((await node.status(second)).state).toBe('CONTAINER_RUNNING');
    expect((await node.status(first)).state).toBe('CONTAINER_EXITED');
  });

  it('goes to one of many who want it at once', async () => {
    const named = { metadata: { name: 'web', attempt: 0 } };
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => node.createContainer(pod, 'true', named)),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await idsOf()).toHaveLength(1);
  });
});

describe('finding containers', () => {
  it('lists those that pass a filter by id, state, sandbox and labels', async () => {
    const other = await node.runPod();
    const a = await node.createContainer(pod, 'true', { labels: { app: 'a', tier: 'x' } });
    const b = await node.runContainer(pod, 'exec sleep 1000', { labels: { app: 'b', tier: 'x' } });
    const c = await node.runContainer(other, 'true', { labels: { app: 'a' } });
    await node.untilExited(c);
    const having = async (filter: object) => (await idsOf({ filter })).sort();

    expect(await having({})).toEqual([a, b, c].sort());
    expect(await having({ id: b })).toEqual([b]);
    expect(await having({ id: b.slice(0, 13) })).toEqual([b]);
    expect(await having({ id: 'f'.repeat(64) })).toEqual([]);
    expect(await having({ podSandboxId: pod })).toEqual([a, b].sort());
    expect(await having({ podSandboxId: other.slice(0, 13) })).toEqual([c]);
    expect(await having({ state: { state: 'CONTAINER_CREATED' } })).toEqual([a]);
    expect(await having({ state: { state: 'CONTAINER_RUNNING' } })).toEqual([b]);
    expect(await having({ state: { state: 'CONTAINER_EXITED' } })).toEqual([c]);
    expect(await having({ labelSelector: { app: 'a' } })).toEqual([a, c].sort());
    expect(await having({ labelSelector: { app: 'a', tier: 'x' } })).toEqual([a]);
    expect(await having({ labelSelector: { app: '' } })).toEqual([]);
    expect(await having({ labelSelector: { app: 'a' }, podSandboxId: other })).toEqual([c]);
    expect(await having({ id: b, labelSelector: { app: 'a' } })).toEqual([]);
  });

  it('takes the beginning of an id wherever it takes an id', async () => {
    const id = await node.createContainer(pod.slice(0, 16), 'exec sleep 1000');
    const containerId = id.slice(0, 16);
    await node.cri.StartContainer({ containerId });
    expect((await node.status(containerId)).id).toBe(id);
    expect(await node.exec(containerId, 'echo yes')).toBe('yes');
    await node.cri.UpdateContainerResources({ containerId, linux: { cpuShares: 512 } });
    await node.cri.StopContainer({ containerId });
    await node.cri.RemoveContainer({ containerId });
    expect(await idsOf()).toEqual([]);
  });

  it('refuses the beginning of an id that fits two', async () => {
    const ids: string[] = [];
    const firstLetters = () => new Set(ids.map(id => id[0]));
    while (firstLetters().size === ids.length) ids.push(await node.createContainer(pod, 'true'));
    const containerId = ids.at(-1)?.slice(0, 1) ?? '';
    for (const call of [
      node.cri.ContainerStatus({ containerId }),
      node.cri.StartContainer({ containerId }),
      node.cri.StopContainer({ containerId }),
      node.cri.RemoveContainer({ containerId }),
    ]) {
      const { code, details } = await failureOf(call);
      expect(code).toBe(grpc.INVALID_ARGUMENT);
      expect(details).toContain(`container id ${containerId} fits 2 containers`);
    }
    expect(await idsOf()).toHaveLength(ids.length);
  });
});

describe('what is told of a container', () => {
  it('has all that it was created with', async () => {
    const config = {
      metadata: { name: 'told', attempt: 7 },
      labels: { app: 'told', 'io.kubernetes.container.name': 'told' },
      annotations: { note: 'a text with spaces', 'io.kubernetes.container.hash': '1234' },
      mounts: [{ hostPath: node.directory, containerPath: '/mnt', readonly: true }],
      stopSignal: 'SIGUSR1' as const,
      logPath: 'told/7.log',
    };
    const id = await node.runContainer(pod, 'exec sleep 1000', config);
    const { images } = await node.cri.ListImages();
    const status = await node.status(id);
    expect(status).toMatchObject({
      id,
      metadata: config.metadata,
      labels: config.labels,
      annotations: config.annotations,
      stopSignal: 'SIGUSR1',
      image: { image: 'docker.io/test/busybox:latest' },
      imageId: images[0]?.id,
      user: { linux: { uid: '0', gid: '0' } },
    });
    expect(status.imageRef).toMatch(/sha256:[0-9a-f]{64}$/);
    expect(status.mounts).toMatchObject(config.mounts);
    expect(status.logPath).toMatch(/\/told\/7\.log$/);

    const { containers } = await node.cri.ListContainers({ filter: { id } });
    expect(containers).toMatchObject([
      {
        id,
        podSandboxId: pod,
        metadata: config.metadata,
        labels: config.labels,
        annotations: config.annotations,
        state: 'CONTAINER_RUNNING',
        image: { image: 'test/busybox:latest' },
        imageId: images[0]?.id,
        imageRef: status.imageRef,
        createdAt: status.createdAt,
      },
    ]);
  });

  it('names the image by its tag when it was asked for by id, as kubelet does', async () => {
    const { images } = await node.cri.ListImages();
    const image = images[0]?.id ?? '';
    const id = await node.createContainer(pod, 'true', {
      image: { image, userSpecifiedImage: 'test/busybox' },
    });
    expect(await node.status(id)).toMatchObject({
      image: { image: 'docker.io/test/busybox:latest', userSpecifiedImage: 'test/busybox' },
      imageId: image,
    });
  });

  it('has, when verbose, the process, the runtime spec and the times of its steps', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    const info = await inspect(node, id);
    expect(info).toMatchObject({
      sandboxID: pod,
      runtimeHandler: 'runc',
      config: { command: ['sh', '-c', 'exec sleep 1000'] },
      runtimeSpec: { process: { args: ['sh', '-c', 'exec sleep 1000'] } },
      steps: { 'start (runc start)': { ms: expect.any(Number) } },
    });
    expect(identify(info.pid)).toBeDefined();
    await node.cri.StopContainer({ containerId: id });
    expect(await inspect(node, id)).toMatchObject({ pid: 0, runtimeSpec: { process: {} } });
  });

  it('has no info unless it is asked for', async () => {
    const containerId = await node.createContainer(pod, 'true');
    expect((await node.cri.ContainerStatus({ containerId })).info).toEqual({});
  });

  it('comes in a stream of lists too', async () => {
    const ids = await Promise.all([1, 2, 3].map(() => node.createContainer(pod, 'true')));
    const streamed: string[] = [];
    for await (const { containers } of node.cri.stream('StreamContainers', {}))
      streamed.push(...containers.map(({ id }) => id));
    expect(streamed.sort()).toEqual(ids.sort());
  });
});

describe('a pod', () => {
  it('takes twenty containers created and started at once', async () => {
    const ids = await Promise.all(
      Array.from({ length: 20 }, () => node.runContainer(pod, 'exec sleep 1000')),
    );
    const { containers } = await node.cri.ListContainers({
      filter: { state: { state: 'CONTAINER_RUNNING' } },
    });
    expect(containers.map(({ id }) => id).sort()).toEqual(ids.sort());
  });

  it('takes its containers along when it is stopped, and when it is removed', async () => {
    const kept = keptOfContainers(node).filter(path => !path.includes(pod));
    const running = await node.runContainer(pod, 'exec sleep 1000');
    await node.createContainer(pod, 'true');
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    expect(await node.status(running)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 137 });
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    expect(await idsOf()).toEqual([]);
    expect(keptOfContainers(node)).toEqual(kept);
  });
});
