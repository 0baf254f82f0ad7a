// The node's root disk is full: pods that run go on and can be stopped, new ones are refused in words, and all works again
// when there is room.
import { rmSync, statfsSync } from 'node:fs';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { failureOf } from '../support/cri-client.ts';
import { type InstalledNode, installedNode } from '../support/installed-node.ts';

const filler = '/var/lib/filler';
let node: InstalledNode;
beforeAll(async () => {
  node = await installedNode();
});
afterAll(async () => {
  rmSync(filler, { force: true });
  await node.leave();
});

/** Leaves not one block, not for root either. */
async function fillDisk(): Promise<void> {
  await execa('sync');
  const { bfree, bsize } = statfsSync('/var/lib');
  await execa('fallocate', ['-l', String((bfree - 256) * bsize), filler], { reject: false });
  await execa('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4k', 'oflag=append', 'conv=notrunc'], {
    reject: false,
  });
  await execa('sync', { reject: false });
}

it('running pods answer and can be stopped, new containers are refused in words, and then all is well', async () => {
  const pod = await node.runPod();
  const running = await node.runContainer(pod, 'exec sleep 1000');
  await fillDisk();
  expect(await node.exec(running, 'echo works')).toBe('works');
  const { details } = await failureOf(
    node.runContainer(pod, 'head -c 1000000 /dev/zero > /x && exec sleep 1000'),
  );
  expect(details).toMatch(/no space|room|full/i);
  await node.cri.StopContainer({ containerId: running, timeout: 0 });
  expect((await node.status(running)).state).toBe('CONTAINER_EXITED');
  rmSync(filler);
  expect((await node.output(await node.runPod(), 'echo well')).lines).toEqual(['well']);
});
