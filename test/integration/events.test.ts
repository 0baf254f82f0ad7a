// GetContainerEvents, as kubelet's evented PLEG listens to it: on the real runtime, with several listeners at once.
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadContract } from '../../src/cri-api/contract.ts';
import type { ContainerEventResponse } from '../../src/cri-api/types.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
const listening: { cancel(): void }[] = [];
beforeAll(async () => {
  node = await startNode();
});
afterEach(async () => {
  for (const listener of listening.splice(0)) listener.cancel();
  await node.removeAll();
});
afterAll(() => node.destroy());

interface Listener {
  events: ContainerEventResponse[];
  /** How the stream ended; undefined while it goes on. */
  ended(): string | undefined;
  cancel(): void;
}

/** Listens from now on: resolves when the daemon has taken up the stream. */
async function listen(): Promise<Listener> {
  const call = node.cri.stream('GetContainerEvents');
  const listener: Listener & { end?: string } = {
    events: [],
    ended: () => listener.end,
    cancel: () => call.cancel(),
  };
  listening.push(listener);
  void (async () => {
    try {
      for await (const event of call) listener.events.push(event);
      listener.end = 'ended';
    } catch (error) {
      listener.end = String(error);
    }
  })();
  // The stream has no greeting; what is sent after this RPC was answered on the same daemon is heard.
  await sleep(100);
  await node.cri.Version();
  return listener;
}

/** `TYPE id` of each event, ids named as given. */
function said({ events }: Listener, names: Record<string, string>): string[] {
  return events.map(
    ({ containerEventType, containerId }) =>
      `${containerEventType.replace(/^CONTAINER_|_EVENT$/g, '')} ${names[containerId] ?? containerId}`,
  );
}

const heard = (listener: Listener, names: Record<string, string>, count: number) =>
  until(`${count} events`, () => (listener.events.length >= count ? said(listener, names) : undefined));

describe('events', () => {
  it('tell the lives of a sandbox and its containers in their order', async () => {
    const listener = await listen();
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    await node.cri.StopContainer({ containerId: id, timeout: 0 });
    await node.cri.RemoveContainer({ containerId: id });
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    expect(await heard(listener, { [pod]: 'pod', [id]: 'container' }, 8)).toEqual([
      'CREATED pod',
      'STARTED pod',
      'CREATED container',
      'STARTED container',
      'STOPPED container',
      'DELETED container',
      'STOPPED pod',
      'DELETED pod',
    ]);
  });

  it('tell once of the end of a container that ends by itself, with its exit code', async () => {
    const pod = await node.runPod();
    const listener = await listen();
    const id = await node.runContainer(pod, 'exit 7');
    expect(await heard(listener, { [id]: 'container' }, 3)).toEqual([
      'CREATED container',
      'STARTED container',
      'STOPPED container',
    ]);
    expect(listener.events[2]?.containersStatuses).toMatchObject([
      { id, state: 'CONTAINER_EXITED', exitCode: 7, reason: 'Error' },
    ]);
  });

  it('carry the state of the pod and all its containers, without what was deleted', async () => {
    const pod = await node.runPod({ metadata: { name: 'web', namespace: 'shop', uid: 'u', attempt: 0 } });
    const first = await node.runContainer(pod, 'sleep 1000');
    const listener = await listen();
    const second = await node.createContainer(pod, 'true');
    await heard(listener, {}, 1);
    const created = listener.events[0];
    expect(created?.podSandboxStatus).toMatchObject({
      id: pod,
      metadata: { name: 'web', namespace: 'shop' },
      state: 'SANDBOX_READY',
      network: { ip: expect.stringContaining(node.subnet) },
    });
    expect(created?.containersStatuses.map(({ id, state }) => [id, state])).toEqual([
      [first, 'CONTAINER_RUNNING'],
      [second, 'CONTAINER_CREATED'],
    ]);
    expect(Math.abs(Date.now() - Number(created?.createdAt) / 1e6)).toBeLessThan(60_000);

    await node.cri.RemoveContainer({ containerId: second });
    await heard(listener, {}, 2);
    expect(listener.events[1]?.containersStatuses.map(({ id }) => id)).toEqual([first]);
    await node.removeAll();
    const gone = await until('the pod is deleted', () =>
      listener.events.find(
        event => event.containerId === pod && event.containerEventType === 'CONTAINER_DELETED_EVENT',
      ),
    );
    expect(gone).toMatchObject({ podSandboxStatus: null, containersStatuses: [] });
  });

  it('tell when a pause process ends by itself', async () => {
    const pod = await node.runPod();
    const listener = await listen();
    const { info } = await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true });
    process.kill(JSON.parse(info.info ?? '{}').pid, 'SIGKILL');
    expect(await heard(listener, { [pod]: 'pod' }, 1)).toEqual(['STOPPED pod']);
    expect(listener.events[0]?.podSandboxStatus?.state).toBe('SANDBOX_NOTREADY');
  });

  it('say nothing of a pod that did not come up', async () => {
    const listener = await listen();
    await node.cri.RunPodSandbox({ config: node.podConfig(), runtimeHandler: 'unknown' }).catch(() => {});
    const broken = { dnsConfig: { servers: ['not an address'.repeat(500)] }, hostname: 'x'.repeat(80) };
    await node.cri.RunPodSandbox({ config: node.podConfig(broken) }).catch(() => {});
    const pod = await node.runPod();
    expect(await heard(listener, { [pod]: 'pod' }, 2)).toEqual(['CREATED pod', 'STARTED pod']);
  });

  it('reach every listener that is there, and only what happens from then on', async () => {
    const early = [await listen(), await listen(), await listen()];
    const pod = await node.runPod();
    const late = await listen();
    const id = await node.createContainer(pod, 'true');
    const names = { [pod]: 'pod', [id]: 'container' };
    for (const listener of early)
      expect(await heard(listener, names, 3)).toEqual(['CREATED pod', 'STARTED pod', 'CREATED container']);
    expect(await heard(late, names, 1)).toEqual(['CREATED container']);
  });

  it('go on for the others when a listener leaves', async () => {
    const [leaves, stays] = [await listen(), await listen()];
    leaves.cancel();
    await until('it has left', () => leaves.ended());
    const pod = await node.runPod();
    expect(await heard(stays, { [pod]: 'pod' }, 2)).toEqual(['CREATED pod', 'STARTED pod']);
    expect(leaves.events).toEqual([]);
  });

  it('wait for a listener that does not read, and hold up nobody meanwhile', async () => {
    const { RuntimeService } = loadContract();
    const client = new RuntimeService(`unix:${node.socket}`, credentials.createInsecure());
    const slow = client.GetContainerEvents?.({}) as NodeJS.ReadableStream & { cancel(): void };
    slow.pause(); // from the first: what flow control lets through is all that comes
    slow.on('error', () => {});
    const quick = await listen();
    const pod = await node.runPod();
    // Statuses of kilobytes, so that the stream's window is full long before the last of them.
    const annotations = { large: 'x'.repeat(20_000) };
    const ids: string[] = [];
    for (let i = 0; i < 20; i++) ids.push(await node.createContainer(pod, 'true', { annotations }));
    await heard(quick, {}, 22);
    const received: ContainerEventResponse[] = [];
    slow.on('data', (event: ContainerEventResponse) => received.push(event));
    slow.resume();
    await until('the slow listener has heard all', () => (received.length >= 22 ? true : undefined));
    expect(received.slice(2).map(({ containerId }) => containerId)).toEqual(ids);
    slow.cancel();
    client.close();
  });

  it('end when the daemon ends, and can be listened to again after', async () => {
    const listener = await listen();
    await node.stop();
    await until('the stream has ended', () => listener.ended());
    await node.start();
    const again = await listen();
    const pod = await node.runPod();
    expect(await heard(again, { [pod]: 'pod' }, 2)).toEqual(['CREATED pod', 'STARTED pod']);
  });
});
