// The disk is full: what fails says so, nothing is half there, and all works again when there is room. `root` and `state`
// are each put on a small file system of their own, in the mount namespace that the tests run in.
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { cp, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { failureOf } from '../support/cri-client.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { startNode, type TestNode } from '../support/node.ts';

const kibibyte = 1024;

describe.each([
  { part: 'root' as const, kibibytes: 24 * kibibyte },
  { part: 'state' as const, kibibytes: 2 * kibibyte },
])('when the file system of $part is full', ({ part, kibibytes }) => {
  let node: TestNode;
  let before: Everything;
  const filler = () => join(node[part], 'filler');

  beforeAll(async () => {
    node = await startNode();
    await node.stop();
    await moveToOwnFileSystem(node[part], kibibytes);
    await node.start();
    before = await afterOnePod(node);
  });
  afterAll(async () => {
    // The node's end looks at the host as it was before there was this file system.
    await node.removeAll();
    await node.stop();
    execFileSync('umount', ['-l', node[part]]);
    await node.start();
    await node.destroy();
  });

  afterEach(() => makeRoom());

  /** Takes all the room there is, to the last block. */
  function fill(): void {
    for (let bytes = kibibytes * kibibyte; bytes >= 1; bytes = Math.floor(bytes / 2)) {
      try {
        for (;;) writeFileSync(filler(), Buffer.alloc(bytes), { flag: 'a' });
      } catch {
        // so much does not fit any more
      }
    }
  }
  const makeRoom = () => rmSync(filler(), { force: true });

  it('RunPodSandbox says so and leaves nothing, and works when there is room', async () => {
    fill();
    const { code, details } = await failureOf(node.runPod());
    makeRoom();
    expect(details).toMatch(/no space left/i);
    expect(code).toBe(8); // RESOURCE_EXHAUSTED
    await untilAsBefore(node, before);
    await node.runPod();
    await untilAsBefore(node, before);
  });

  it('CreateContainer does it whole or says so, and works when there is room', async () => {
    const pod = await node.runPod();
    fill();
    // Blocks that the store has to spare may do for one container.
    const answers = await Promise.allSettled(
      Array.from({ length: 5 }, () => node.createContainer(pod, 'true')),
    );
    const made = answers.flatMap(answer => (answer.status === 'fulfilled' ? [answer.value] : []));
    const words = answers.flatMap(answer => (answer.status === 'rejected' ? [String(answer.reason)] : []));
    const listed = (await node.cri.ListContainers()).containers;
    makeRoom();
    // A record that cannot even be removed stays listed, for a removal when there is room; it is no container to start.
    const created = listed.filter(({ state }) => state === 'CONTAINER_CREATED');
    expect(created.map(({ id }) => id).sort()).toEqual(made.sort());
    for (const sentence of words) expect(sentence).toMatch(/no space left/i);
    expect((await node.output(pod, 'echo there is room')).lines).toEqual(['there is room']);
    await untilAsBefore(node, before);
  });

  it('pods that run go on, answer, and can be removed when there is room', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    fill();
    expect((await node.cri.PodSandboxStatus({ podSandboxId: pod })).status?.state).toBe('SANDBOX_READY');
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    await node.cri.StopContainer({ containerId: id, timeout: 0 }).catch(() => {});
    await node.cri.StopPodSandbox({ podSandboxId: pod }).catch(() => {});
    makeRoom();
    expect((await node.status(id)).state).toBe('CONTAINER_EXITED');
    await untilAsBefore(node, before);
  });

  it('a daemon that is killed finds its pods again when there is room', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'sleep 1000');
    fill();
    await failureOf(node.runPod());
    await node.kill();
    makeRoom();
    await node.start();
    expect((await node.cri.ListPodSandbox()).items.map(found => found.id)).toEqual([pod]);
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    await untilAsBefore(node, before);
  });
});

/** Puts a directory with what is in it on a file system of its own. */
async function moveToOwnFileSystem(directory: string, kibibytes: number): Promise<void> {
  await rename(directory, `${directory}.old`);
  await mkdir(directory, { mode: 0o711 });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', directory]);
  await cp(`${directory}.old`, directory, {
    recursive: true,
    preserveTimestamps: true,
    verbatimSymlinks: true,
  });
  await rm(`${directory}.old`, { recursive: true });
}
