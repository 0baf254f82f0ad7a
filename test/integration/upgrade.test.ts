// One daemon takes another's place while much is going on, and a daemon opens the store of an earlier release.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { open } from 'lmdb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { startNode, type TestNode } from '../support/node.ts';

let node: TestNode;
let before: Everything;
beforeAll(async () => {
  node = await startNode();
  before = await afterOnePod(node);
});
afterAll(() => node.destroy());

describe('a daemon that is replaced under load', () => {
  it.each([
    ['SIGTERM', () => node.stop()],
    ['kill -9', () => node.kill()],
  ])('by %s, again and again, loses no exit code and no log line', async (_, end) => {
    const pods = await Promise.all([node.runPod(), node.runPod()]);
    const counted = 25;
    const script = (i: number) =>
      `n=0; while [ $n -lt ${counted} ]; do echo $n; n=$((n+1)); sleep 0.0${1 + (i % 9)}; done; printf last; exit ${i}`;
    const ids = await Promise.all(
      Array.from({ length: 8 }, (_, i) => node.runContainer(pods[i % 2] ?? '', script(i))),
    );
    for (let i = 0; i < 3; i++) {
      await end();
      await sleep(i * 150);
      await node.start();
    }
    const lines = [...Array.from({ length: counted }, (_, n) => String(n)), 'last'];
    for (const [i, id] of ids.entries()) {
      expect(await node.untilExited(id)).toMatchObject({
        exitCode: i,
        reason: i === 0 ? 'Completed' : 'Error',
      });
      expect(await node.logLines(id)).toEqual(lines);
    }
    await untilAsBefore(node, before);
  });
});

describe('the store of an earlier release', () => {
  /** Records as release 0.1 wrote them (format 1), by collection: of a pod that ran, with containers of every state. */
  const fixture = new URL('fixtures/store-0.1.json', import.meta.url);
  const records: Record<string, [string, unknown][]> = JSON.parse(readFileSync(fixture, 'utf8'));

  it('opens in this one: its pods are NOTREADY after the reboot that an upgrade of the node is, and can be removed', async () => {
    await node.stop();
    const root = open({ path: join(node.root, 'store'), maxDbs: 16, encoding: 'json' });
    expect(root.get('format')).toBe(1);
    for (const [name, entries] of Object.entries(records)) {
      const collection = root.openDB({ name, encoding: 'string' });
      for (const [key, record] of entries) collection.putSync(key, JSON.stringify(record));
    }
    await root.close();
    await node.start();
    expect(await node.log()).not.toContain('cannot be read');
    const { items } = await node.cri.ListPodSandbox();
    expect(items).toMatchObject([
      { metadata: { name: 'of-an-earlier-release', namespace: 'test' }, state: 'SANDBOX_NOTREADY' },
    ]);
    const { containers } = await node.cri.ListContainers();
    expect(containers.map(({ metadata, state }) => [metadata?.name, state]).sort()).toEqual([
      ['created', 'CONTAINER_CREATED'],
      ['exited', 'CONTAINER_EXITED'],
      ['running', 'CONTAINER_EXITED'],
    ]);
    const exit = await node.status(containers.find(({ metadata }) => metadata?.name === 'exited')?.id ?? '');
    expect(exit).toMatchObject({ exitCode: 3, reason: 'Error' });
    await untilAsBefore(node, before);
  });
});
