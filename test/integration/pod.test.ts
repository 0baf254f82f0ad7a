// The main job from end to end: a pod and its containers through the CRI, on the real runc, conmon and plugins.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startNode, type TestNode } from '../support/node.ts';

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(() => node.destroy());

describe('a pod', () => {
  it('comes up, runs a container, and goes without a trace', async () => {
    const before = node.snapshot();
    const pod = await node.runPod();
    const { status } = await node.cri.PodSandboxStatus({ podSandboxId: pod });
    expect(status?.state).toBe('SANDBOX_READY');
    expect(status?.network?.ip).toContain(node.subnet);

    const { lines, status: ended } = await node.output(pod, 'hostname; ip -o addr show eth0; echo done');
    expect(lines.at(-1)).toBe('done');
    expect(lines.join('\n')).toContain(status?.network?.ip);
    expect(ended).toMatchObject({ exitCode: 0, reason: 'Completed' });

    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await node.cri.RemovePodSandbox({ podSandboxId: pod });
    const after = node.snapshot();
    expect({ ...after, links: [], addresses: [], routes: [], processes: [], cgroups: [] }).toEqual({
      ...before,
      links: [],
      addresses: [],
      routes: [],
      processes: [],
      cgroups: [],
    });
    expect(after.netns).toEqual([]);
  });

  it('runs commands in a running container', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    expect(await node.exec(id, 'echo hello; id -u')).toBe('hello\n0');
    await node.cri.StopContainer({ containerId: id, timeout: 0 });
    expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 137 });
    await node.removeAll();
  });
});
