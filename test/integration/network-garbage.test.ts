// The collection of network garbage at each start: what no pod owns goes, what a pod owns stays.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakePluginCalls } from '../support/fake-plugins.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
beforeAll(async () => {
  node = await startNode({
    cni: { '10-noting.conf': { cniVersion: '1.1.0', name: 'noting', type: 'noting' } },
    plugins: { noting: {} }, // the real ones here have no GC yet
  });
});
afterAll(() => node.destroy());

const callsSince = async (count: number) => (await fakePluginCalls(node.pluginDir)).slice(count);

describe('at the start of a daemon', () => {
  it('an attachment of a pod that is not known is deleted, and plugins are told which are valid', async () => {
    const pod = await node.runPod();
    await node.stop();
    const results = join(node.root, 'cni', 'results');
    const [own = ''] = readdirSync(results);
    const record = readFileSync(join(results, own), 'utf8');
    writeFileSync(join(results, own.replace(pod, 'forgotten')), record.replaceAll(pod, 'forgotten'));
    const before = (await fakePluginCalls(node.pluginDir)).length;

    await node.start();
    const { config } = await until('the plugin is asked to collect', async () =>
      (await callsSince(before)).find(({ verb }) => verb === 'GC'),
    );
    expect(config['cni.dev/valid-attachments']).toContainEqual({ containerID: pod, ifname: 'eth0' });
    expect(JSON.stringify(config)).not.toContain('forgotten');
    const deleted = (await callsSince(before)).filter(({ verb }) => verb === 'DEL');
    expect(deleted.map(({ containerId, ifName }) => [containerId, ifName])).toEqual([['forgotten', 'eth0']]);
    expect(readdirSync(results)).toEqual([own]);
    expect((await node.cri.PodSandboxStatus({ podSandboxId: pod })).status?.state).toBe('SANDBOX_READY');
    await node.removeAll();
  });
});
