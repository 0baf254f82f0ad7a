// The daemon ends, by SIGTERM or kill -9, and another takes its place: pods must not notice, and nothing may be lost or left.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspect } from '../support/containers.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let before: Everything;
beforeAll(async () => {
  // A daemon that waits for what does not end of itself would do so for an hour.
  node = await startNode({ config: '[plugins."io.cri-ts"]\nundo_timeout = "1h"\n' });
  before = await afterOnePod(node);
});
afterAll(() => node.destroy());

/** Counts aloud, so that a gap in its log would show. */
const counting = 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done';
const numbers = (lines: readonly string[]) => lines.map(Number);
const nanoseconds = (ms: number) => BigInt(ms) * 1_000_000n;

const ways = [
  { way: 'SIGTERM', end: () => node.stop() },
  { way: 'kill -9', end: () => node.kill() },
];

describe.each(ways)('after $way', ({ end }) => {
  it('pods go on running and logging, and the next daemon finds them as they were', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, counting);
    const statusBefore = await node.status(id);
    const podBefore = (await node.cri.PodSandboxStatus({ podSandboxId: pod })).status;
    await end();

    const soFar = readFileSync(statusBefore.logPath, 'utf8').length;
    await until('the log grows without a daemon', () =>
      readFileSync(statusBefore.logPath, 'utf8').length > soFar ? true : undefined,
    );

    await node.start();
    expect(await node.status(id)).toEqual(statusBefore);
    expect((await node.cri.PodSandboxStatus({ podSandboxId: pod })).status).toEqual(podBefore);
    const counted = numbers(await node.logLines(id));
    expect(counted).toEqual(counted.map((_, i) => i));
    await untilAsBefore(node, before);
  });

  it('commands run in a container that an earlier daemon started', async () => {
    const id = await node.runContainer(await node.runPod(), 'sleep 1000');
    await end();
    await node.start();
    expect(await node.exec(id, 'echo $((6 * 7)); exit 0')).toBe('42');
    const failed = await node.cri.ExecSync({ containerId: id, cmd: ['sh', '-c', 'exit 9'], timeout: 20 });
    expect(failed.exitCode).toBe(9);
    await untilAsBefore(node, before);
  });

  it('what was there of commands that were just being started is removed', async () => {
    const id = await node.runContainer(await node.runPod(), 'sleep 1000');
    await end();
    const left = [join(node.state, 'containers', id, 'exec-abc123'), join(node.state, 'tty', 'tabc123')];
    for (const directory of left) mkdirSync(directory, { recursive: true });
    await node.start();
    expect(left.filter(existsSync)).toEqual([]);
    expect(await node.exec(id, 'echo $((6 * 7))')).toBe('42');
    await untilAsBefore(node, before);
  });

  it('such a container is stopped within its grace period, and its exit code is known', async () => {
    const script = 'trap "exit 5" TERM; sleep 1000 & wait';
    const id = await node.runContainer(await node.runPod(), script);
    await until('it listens', async () => (await node.exec(id, 'pidof sleep').catch(() => '')) || undefined);
    await end();
    await node.start();
    await node.cri.StopContainer({ containerId: id, timeout: 20 });
    expect(await node.status(id)).toMatchObject({
      state: 'CONTAINER_EXITED',
      exitCode: 5,
      reason: 'Error',
    });
    await untilAsBefore(node, before);
  });

  it('a container that ended meanwhile is reported with its exit code and the time of its end', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'while [ ! -e /go ]; do sleep 0.02; done; exit 7');
    const bystander = await node.runContainer(pod, 'sleep 1000');
    const { startedAt } = await node.status(id);
    const { pid } = await inspect(node, id);
    await end();
    const ended = Date.now();
    writeFileSync(`/proc/${pid}/root/go`, '');
    await until('the container has ended', () => !existsSync(`/proc/${pid}/exe`) || undefined);
    await sleep(1500);
    const started = Date.now();
    await node.start();
    const status = await node.status(id);
    expect(status).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 7, reason: 'Error', startedAt });
    expect(BigInt(status.finishedAt)).toBeGreaterThan(nanoseconds(ended - 100)); // the times of files are coarse
    expect(BigInt(status.finishedAt)).toBeLessThan(nanoseconds(started));
    expect(await node.status(bystander)).toMatchObject({ state: 'CONTAINER_RUNNING' });
    await untilAsBefore(node, before);
  });

  it('a pod with a created, a running and an exited container is removed whole', async () => {
    const pod = await node.runPod();
    await node.createContainer(pod, 'true');
    await node.runContainer(pod, 'sleep 1000');
    await node.untilExited(await node.runContainer(pod, 'true'));
    await end();
    await node.start();
    expect((await node.cri.ListContainers()).containers.map(({ state }) => state).sort()).toEqual([
      'CONTAINER_CREATED',
      'CONTAINER_EXITED',
      'CONTAINER_RUNNING',
    ]);
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    await untilAsBefore(node, before);
  });
});

describe('a daemon that is asked to end', () => {
  it('does so at once, also when a client listens for events', async () => {
    const events = node.cri.stream('GetContainerEvents');
    const drained = (async () => {
      for await (const _ of events) {
        // nothing happens
      }
    })().catch(() => {});
    const pod = await node.runPod();
    await node.stop();
    await drained;
    await node.start();
    expect((await node.cri.PodSandboxStatus({ podSandboxId: pod })).status?.state).toBe('SANDBOX_READY');
    await untilAsBefore(node, before);
  });

  it('lets a request that is under way come to its end', async () => {
    const id = await node.runContainer(await node.runPod(), 'sleep 1000');
    const exec = node.cri.ExecSync({
      containerId: id,
      cmd: ['sh', '-c', 'touch /begun; sleep 2; echo done'],
      timeout: 20,
    });
    await until('the command runs', async () =>
      (await node.exec(id, 'ls /begun 2>/dev/null')) === '/begun' ? true : undefined,
    );
    await Promise.all([node.stop(), exec]);
    expect(Buffer.from((await exec).stdout).toString()).toBe('done\n');
    await node.start();
    await untilAsBefore(node, before);
  });
});

describe('kill -9 at any moment', () => {
  const moments = [0, 3, 6, 10, 15, 20, 25, 30, 40, 50, 60];

  it.each(moments)('%i ms into RunPodSandbox leaves nothing', async ms => {
    const call = node.cri.RunPodSandbox({ config: node.podConfig() }).catch(() => {});
    await sleep(ms);
    await node.kill();
    await call;
    await node.start();
    await untilAsBefore(node, before);
  });

  it.each(moments)('%i ms into CreateContainer and StartContainer leaves nothing', async ms => {
    const pod = await node.runPod();
    const call = node.runContainer(pod, 'sleep 1000').catch(() => {});
    await sleep(ms);
    await node.kill();
    await call;
    await node.start();
    await untilAsBefore(node, before);
  });

  it.each([0, 6, 15, 30])(
    '%i ms into RemoveContainer leaves no container that seems to be there and is not',
    async ms => {
      const id = await node.createContainer(await node.runPod(), 'exit 5');
      const call = node.cri.RemoveContainer({ containerId: id }).catch(() => {});
      await sleep(ms);
      await node.kill();
      await call;
      await node.start();
      const { containers } = await node.cri.ListContainers();
      for (const { state } of containers) {
        expect(state).toBe('CONTAINER_CREATED');
        await node.cri.StartContainer({ containerId: id });
        expect((await node.untilExited(id)).exitCode).toBe(5);
      }
      await untilAsBefore(node, before);
    },
  );

  it.each(moments)('%i ms into StopPodSandbox leaves nothing', async ms => {
    const pod = await node.runPod();
    await node.runContainer(pod, 'sleep 1000');
    const call = node.cri.StopPodSandbox({ podSandboxId: pod }).catch(() => {});
    await sleep(ms);
    await node.kill();
    await call;
    await node.start();
    await untilAsBefore(node, before);
  });
});
