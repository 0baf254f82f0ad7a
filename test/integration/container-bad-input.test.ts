// What CreateContainer, StartContainer and their like answer to requests that make no sense, and that nothing is left.
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Loose } from '../../src/cri-api/contract.ts';
import type { ContainerConfig, CreateContainerRequest } from '../../src/cri-api/types.ts';
import { keptOfContainers, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import type { HostSnapshot } from '../support/host-snapshot.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode();
  pod = await node.runPod();
});
afterAll(() => node.destroy());

const nobody = 'f'.repeat(64);
const good: Loose<ContainerConfig> = {
  metadata: { name: 'good', attempt: 0 },
  image: { image: 'test/busybox:latest' },
  command: ['true'],
  logPath: 'good.log',
};
const request = (over: Loose<ContainerConfig>): Loose<CreateContainerRequest> => ({
  podSandboxId: pod,
  config: { ...good, ...over },
});

describe('CreateContainer', () => {
  let before: { host: HostSnapshot; kept: string[] };
  beforeEach(() => {
    before = { host: node.snapshot(), kept: keptOfContainers(node) };
  });
  async function isRefused(wanted: Loose<CreateContainerRequest>, code: number, words: string) {
    const failure = await failureOf(node.cri.CreateContainer(wanted));
    expect(failure).toEqual({ code, details: expect.stringContaining(words) });
    expect((await node.cri.ListContainers()).containers).toEqual([]);
    expect({ host: node.snapshot(), kept: keptOfContainers(node) }).toEqual(before);
  }

  it.each<[string, () => Loose<CreateContainerRequest>, number, string]>([
    ['without a config', () => ({ podSandboxId: pod }), grpc.INVALID_ARGUMENT, 'config'],
    ['without metadata', () => request({ metadata: null }), grpc.INVALID_ARGUMENT, 'metadata'],
    ['without a name', () => request({ metadata: { name: '', attempt: 0 } }), grpc.INVALID_ARGUMENT, 'name'],
    [
      'without an image',
      () => request({ image: null }),
      grpc.INVALID_ARGUMENT,
      'container good names no image',
    ],
    ['with an empty image', () => request({ image: { image: '' } }), grpc.INVALID_ARGUMENT, 'no image'],
    [
      'of an unknown image',
      () => request({ image: { image: 'test/no-such:1' } }),
      grpc.NOT_FOUND,
      'test/no-such:1',
    ],
    [
      'of an unknown image id',
      () => request({ image: { image: `sha256:${nobody}` } }),
      grpc.NOT_FOUND,
      nobody,
    ],
    ['without a sandbox', () => ({ config: good }), grpc.INVALID_ARGUMENT, 'sandbox'],
    [
      'in an unknown sandbox',
      () => ({ podSandboxId: nobody, config: good }),
      grpc.NOT_FOUND,
      `sandbox ${nobody}`,
    ],
    [
      'with a log path that climbs out',
      () => request({ logPath: '../../x.log' }),
      grpc.INVALID_ARGUMENT,
      '../../x.log',
    ],
    [
      'with a relative working directory',
      () => request({ workingDir: 'x' }),
      grpc.INVALID_ARGUMENT,
      'working_dir',
    ],
    ['with an empty program name', () => request({ command: [''] }), grpc.INVALID_ARGUMENT, 'command'],
    ['with a NUL in an argument', () => request({ command: ['echo', 'a\0b'] }), grpc.INVALID_ARGUMENT, 'NUL'],
    [
      'with a variable without a name',
      () => request({ envs: [{ key: '', value: Buffer.from('x') }] }),
      grpc.INVALID_ARGUMENT,
      'envs',
    ],
    [
      'with an unknown CDI device',
      () => request({ CDIDevices: [{ name: 'vendor.com/none=0' }] }),
      grpc.INVALID_ARGUMENT,
      'vendor.com/none=0',
    ],
    [
      'in a user namespace that its pod is not in',
      () =>
        request(
          secured({
            namespaceOptions: {
              usernsOptions: {
                mode: 'POD',
                uids: [{ hostId: 100_000, containerId: 0, length: 65_536 }],
                gids: [{ hostId: 100_000, containerId: 0, length: 65_536 }],
              },
            },
          }),
        ),
      grpc.INVALID_ARGUMENT,
      'userns',
    ],
    [
      'with an AppArmor profile where there is no AppArmor',
      () => request(secured({ apparmor: { profileType: 'Localhost', localhostRef: 'no-such-profile' } })),
      grpc.INVALID_ARGUMENT,
      'apparmor',
    ],
  ])('%s is refused, and nothing is left', async (_, wanted, code, words) => {
    await isRefused(wanted(), code, words);
  });

  it('in a sandbox that is not READY is refused, and nothing is left', async () => {
    const stopped = await node.runPod();
    await node.cri.StopPodSandbox({ podSandboxId: stopped });
    before = { host: node.snapshot(), kept: keptOfContainers(node) };
    await isRefused(
      { podSandboxId: stopped, config: good },
      grpc.FAILED_PRECONDITION,
      `sandbox ${stopped} is not READY`,
    );
    await node.cri.RemovePodSandbox({ podSandboxId: stopped });
  });

  it('leaves the name free when it was refused', async () => {
    await failureOf(node.cri.CreateContainer(request({ command: [''] })));
    const { containerId } = await node.cri.CreateContainer(request({}));
    await node.cri.RemoveContainer({ containerId });
  });

  it('is undone when its caller goes away', async () => {
    for (const timeoutMs of [1, 5, 10, 20]) {
      await node.cri.CreateContainer(request({}), { timeoutMs }).catch(() => undefined);
    }
    // One that came through is listed and holds the name; one that is being undone holds it until it is.
    const containerId = await until('the name is free', async () => {
      for (const { id } of (await node.cri.ListContainers()).containers)
        await node.cri.RemoveContainer({ containerId: id });
      const created = await node.cri.CreateContainer(request({})).catch(() => undefined);
      return created?.containerId;
    });
    await node.cri.RemoveContainer({ containerId });
    expect({ host: node.snapshot(), kept: keptOfContainers(node) }).toEqual(before);
  });
});

describe('an unknown container', () => {
  it.each<[string, () => Promise<unknown>]>([
    ['StartContainer', () => node.cri.StartContainer({ containerId: nobody })],
    ['ContainerStatus', () => node.cri.ContainerStatus({ containerId: nobody })],
    ['ExecSync', () => node.cri.ExecSync({ containerId: nobody, cmd: ['true'] })],
    ['ReopenContainerLog', () => node.cri.ReopenContainerLog({ containerId: nobody })],
    ['UpdateContainerResources', () => node.cri.UpdateContainerResources({ containerId: nobody, linux: {} })],
  ])('is NOT_FOUND for %s', async (_, call) => {
    expect(await failureOf(call())).toEqual({
      code: grpc.NOT_FOUND,
      details: `container ${nobody} does not exist`,
    });
  });
});

describe('no container id', () => {
  it.each<[string, () => Promise<unknown>]>([
    ['StartContainer', () => node.cri.StartContainer({})],
    ['StopContainer', () => node.cri.StopContainer({})],
    ['RemoveContainer', () => node.cri.RemoveContainer({})],
    ['ContainerStatus', () => node.cri.ContainerStatus({})],
    ['ExecSync', () => node.cri.ExecSync({ cmd: ['true'] })],
  ])('is INVALID_ARGUMENT for %s', async (_, call) => {
    expect(await failureOf(call())).toEqual({
      code: grpc.INVALID_ARGUMENT,
      details: 'no container id was given',
    });
  });
});

describe('StopContainer', () => {
  it('refuses a negative grace period', async () => {
    const containerId = await node.runContainer(pod, 'exec sleep 1000');
    const { code, details } = await failureOf(node.cri.StopContainer({ containerId, timeout: -1 }));
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('timeout -1');
    expect((await node.status(containerId)).state).toBe('CONTAINER_RUNNING');
    await node.cri.RemoveContainer({ containerId });
  });
});
