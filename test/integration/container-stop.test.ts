// How containers end: by themselves, by StopContainer's signal and grace period, by force, by the OOM killer.
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig } from '../../src/cri-api/types.ts';
import { addImage, limited, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
  await addImage(node, 'docker.io/test/usr1:latest', { StopSignal: 'SIGUSR1' });
  pod = await node.runPod();
});
afterAll(() => node.destroy());

/** A container that answers signals: it says which it got, and goes on or ends. */
async function runTrap(traps: string, over: Loose<ContainerConfig> = {}): Promise<string> {
  const id = await node.runContainer(pod, `${traps}; echo ready; while :; do sleep 0.05; done`, over);
  await until('the traps are set', async () => (await node.logLines(id)).includes('ready') || undefined);
  return id;
}
const answers = async (id: string) => (await node.logLines(id)).filter(line => line !== 'ready');
const ownPid = secured({ namespaceOptions: { pid: 'CONTAINER' } });

describe('a container that ends by itself', () => {
  it.each([
    ['success', 'exit 0', 0, 'Completed'],
    ['failure', 'exit 1', 1, 'Error'],
    ['the highest code', 'exit 255', 255, 'Error'],
    ['a segmentation fault', 'kill -SEGV $$', 139, 'Error'],
    ['SIGKILL', 'kill -KILL $$', 137, 'Error'],
    ['SIGTERM', 'kill -TERM $$', 143, 'Error'],
  ])('reports %s', async (_, script, exitCode, reason) => {
    expect((await node.output(pod, script)).status).toMatchObject({
      state: 'CONTAINER_EXITED',
      exitCode,
      reason,
      message: '',
    });
  });

  it('reports the same when it is the first of its own PID namespace', async () => {
    expect((await node.output(pod, 'exit 7', ownPid)).status).toMatchObject({ exitCode: 7, reason: 'Error' });
  });
});

describe('StopContainer', () => {
  it('sends SIGTERM and takes the exit code that the program chooses', async () => {
    const id = await runTrap('trap "echo TERM; exit 3" TERM');
    await node.cri.StopContainer({ containerId: id, timeout: 60 });
    expect(await node.status(id)).toMatchObject({ exitCode: 3, reason: 'Error' });
    expect(await answers(id)).toEqual(['TERM']);
  });

  it('reports 143 for a program that SIGTERM ends', async () => {
    const id = await node.runContainer(pod, 'exec sleep 1000');
    await node.cri.StopContainer({ containerId: id, timeout: 60 });
    expect(await node.status(id)).toMatchObject({ exitCode: 143, reason: 'Error' });
  });

  it('sends the stop signal of the image', async () => {
    const over = { image: { image: 'test/usr1:latest' } };
    const id = await runTrap('trap "echo USR1; exit 0" USR1; trap "echo TERM; exit 1" TERM', over);
    expect((await node.status(id)).stopSignal).toBe('SIGUSR1');
    await node.cri.StopContainer({ containerId: id, timeout: 60 });
    expect(await node.status(id)).toMatchObject({ exitCode: 0, reason: 'Completed' });
    expect(await answers(id)).toEqual(['USR1']);
  });

  it('sends the stop signal that the container asks for before that of the image', async () => {
    const over = { image: { image: 'test/usr1:latest' }, stopSignal: 'SIGUSR2' as const };
    const id = await runTrap('trap "echo USR1; exit 1" USR1; trap "echo USR2; exit 0" USR2', over);
    expect((await node.status(id)).stopSignal).toBe('SIGUSR2');
    await node.cri.StopContainer({ containerId: id, timeout: 60 });
    expect(await answers(id)).toEqual(['USR2']);
  });

  it('sends real-time signals', async () => {
    const id = await runTrap('trap "echo RT; exit 0" 37', { stopSignal: 'SIGRTMINPLUS3' });
    expect((await node.status(id)).stopSignal).toBe('SIGRTMINPLUS3');
    await node.cri.StopContainer({ containerId: id, timeout: 60 });
    expect(await answers(id)).toEqual(['RT']);
  });

  it('kills what does not end within the grace period', async () => {
    const id = await runTrap('trap "echo TERM" TERM');
    await node.cri.StopContainer({ containerId: id, timeout: 1 });
    expect(await node.status(id)).toMatchObject({ exitCode: 137, reason: 'Error' });
    expect(await answers(id)).toEqual(['TERM']);
  });

  it('kills at once with a grace period of zero', async () => {
    const id = await runTrap('trap "echo TERM" TERM');
    await node.cri.StopContainer({ containerId: id, timeout: 0 });
    expect(await node.status(id)).toMatchObject({ exitCode: 137 });
    expect(await answers(id)).toEqual([]);
  });

  it('kills the first process of a PID namespace, which ignores what it does not handle', async () => {
    const id = await node.runContainer(pod, 'sleep 1000; true', ownPid);
    await node.cri.StopContainer({ containerId: id, timeout: 1 });
    expect(await node.status(id)).toMatchObject({ exitCode: 137 });
  });

  it('called twice at once asks once, and the shorter grace period wins', async () => {
    const id = await runTrap('trap "echo TERM" TERM');
    await Promise.all([
      node.cri.StopContainer({ containerId: id, timeout: 3600 }),
      node.cri.StopContainer({ containerId: id, timeout: 1 }),
    ]);
    expect(await node.status(id)).toMatchObject({ exitCode: 137 });
    expect(await answers(id)).toEqual(['TERM']);
  });

  it('given up by its caller leaves the container as it is, and can be called again', async () => {
    const id = await runTrap('trap "echo TERM" TERM');
    const { code } = await failureOf(
      node.cri.StopContainer({ containerId: id, timeout: 3600 }, { timeoutMs: 500 }),
    );
    expect(code).toBe(grpc.DEADLINE_EXCEEDED);
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    await node.cri.StopContainer({ containerId: id, timeout: 1 });
    expect(await node.status(id)).toMatchObject({ exitCode: 137 });
  });

  it('ends a paused program too', async () => {
    const id = await node.runContainer(pod, 'kill -STOP $$');
    await node.cri.StopContainer({ containerId: id, timeout: 1 });
    expect(await node.status(id)).toMatchObject({ exitCode: 137 });
  });
});

describe('the OOM killer', () => {
  const small = { memoryLimitInBytes: 32 * 1024 * 1024 };

  it('makes OOMKilled the reason, of exit code 137', async () => {
    for (let i = 0; i < 3; i++) {
      const { status } = await node.output(pod, 'exec tail /dev/zero', limited(small));
      expect(status).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
    }
  });

  it('is seen in containers with their own PID namespace', async () => {
    const over = {
      linux: { resources: small, securityContext: { namespaceOptions: { pid: 'CONTAINER' as const } } },
    };
    expect((await node.output(pod, 'exec tail /dev/zero', over)).status).toMatchObject({
      exitCode: 137,
      reason: 'OOMKilled',
    });
  });

  it('is not blamed for other ends of containers with a limit', async () => {
    expect((await node.output(pod, 'kill -KILL $$', limited(small))).status).toMatchObject({
      exitCode: 137,
      reason: 'Error',
    });
  });
});
