// Several clients at once on one pod. Whatever order the daemon finds for them, every answer is one that a client can
// understand, and nothing is left.
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CriClient, connectCri, type RpcError } from '../support/cri-client.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { startNode, type TestNode } from '../support/node.ts';

let node: TestNode;
let before: Everything;
let clients: CriClient[];
beforeAll(async () => {
  node = await startNode();
  before = await afterOnePod(node);
  clients = Array.from({ length: 4 }, () => connectCri(node.socket));
});
afterAll(async () => {
  for (const client of clients) client.close();
  await node.destroy();
});

const config = (name: string) => ({
  metadata: { name, attempt: 0 },
  image: { image: 'test/busybox:latest' },
  command: ['sleep', '1000'],
});

/** What a client that raced and lost may be told: that the object is gone, or is in another state, or has another holder. */
const understandable = [status.NOT_FOUND, status.FAILED_PRECONDITION, status.ALREADY_EXISTS];

async function outcomes(calls: readonly Promise<unknown>[]): Promise<RpcError[]> {
  const results = await Promise.allSettled(calls);
  const failures = results.flatMap(result =>
    result.status === 'rejected' ? [result.reason as RpcError] : [],
  );
  for (const { code, message } of failures) expect(understandable, message).toContain(code);
  return failures;
}

describe('clients that race', () => {
  it('to run one pod: one of them gets it', async () => {
    const pod = node.podConfig();
    const failures = await outcomes(clients.map(cri => cri.RunPodSandbox({ config: pod })));
    expect(failures.map(({ code }) => code)).toEqual(clients.slice(1).map(() => status.ALREADY_EXISTS));
    await untilAsBefore(node, before);
  });

  it('to create one container: one of them gets it', async () => {
    const podSandboxId = await node.runPod();
    const failures = await outcomes(
      clients.map(cri => cri.CreateContainer({ podSandboxId, config: config('one') })),
    );
    expect(failures.map(({ code }) => code)).toEqual(clients.slice(1).map(() => status.ALREADY_EXISTS));
    await untilAsBefore(node, before);
  });

  it('to start one container: it is started once', async () => {
    const containerId = await node.createContainer(await node.runPod(), 'sleep 1000');
    const failures = await outcomes(clients.map(cri => cri.StartContainer({ containerId })));
    expect(failures).toHaveLength(clients.length - 1);
    expect((await node.status(containerId)).state).toBe('CONTAINER_RUNNING');
    await untilAsBefore(node, before);
  });

  it('to stop, remove and look at one container: all are content', async () => {
    const containerId = await node.runContainer(await node.runPod(), 'sleep 1000');
    await outcomes(
      clients.flatMap(cri => [
        cri.StopContainer({ containerId, timeout: 0 }),
        cri.ContainerStatus({ containerId }),
        cri.RemoveContainer({ containerId }),
        cri.ListContainers(),
      ]),
    );
    expect((await node.cri.ListContainers()).containers).toEqual([]);
    await untilAsBefore(node, before);
  });

  it('to stop and remove one pod: all are content', async () => {
    const podSandboxId = await node.runPod();
    await node.runContainer(podSandboxId, 'sleep 1000');
    const calls = clients.flatMap(cri => [
      cri.StopPodSandbox({ podSandboxId }),
      cri.RemovePodSandbox({ podSandboxId }),
    ]);
    expect(await outcomes(calls)).toEqual([]);
    expect((await node.cri.ListPodSandbox()).items).toEqual([]);
    await untilAsBefore(node, before);
  });

  it.each([0, 5, 10, 20, 40])(
    'StopPodSandbox %i ms after CreateContainer leaves no container that could run',
    async ms => {
      const podSandboxId = await node.runPod();
      const [first, second] = clients as [CriClient, CriClient];
      const life = (async () => {
        const { containerId } = await first.CreateContainer({ podSandboxId, config: config('late') });
        await first.StartContainer({ containerId });
      })();
      await new Promise(resolve => setTimeout(resolve, ms));
      const stop = second.StopPodSandbox({ podSandboxId });
      await outcomes([life, stop]);
      await stop;
      const states = (await node.cri.ListContainers()).containers.map(({ state }) => state);
      expect(states).not.toContain('CONTAINER_RUNNING');
      await untilAsBefore(node, before);
    },
  );

  it('with everything on one pod: it is gone in the end', async () => {
    const podSandboxId = await node.runPod();
    const lives = clients.map(async (cri, i) => {
      for (let round = 0; round < 3; round++) {
        const { containerId } = await cri.CreateContainer({
          podSandboxId,
          config: config(`c${i}-${round}`),
        });
        await cri.StartContainer({ containerId });
        await cri.StopContainer({ containerId, timeout: 0 });
        await cri.RemoveContainer({ containerId });
      }
    });
    await new Promise(resolve => setTimeout(resolve, 200));
    const removal = node.cri.RemovePodSandbox({ podSandboxId });
    await outcomes([...lives, removal]);
    await removal;
    await untilAsBefore(node, before);
  });
});
