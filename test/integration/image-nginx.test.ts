// A program of a distribution, out of a registry and into a pod: pulled, run, asked.
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inspect, procStatus } from '../support/containers.ts';
import { pushImage, startRegistry, type TestRegistry } from '../support/image/registry.ts';
import { makeNginxImage } from '../support/nginx-image.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

const page = '<!doctype html><title>from a layer</title>\n';

let registry: TestRegistry;
let node: TestNode;
beforeAll(async () => {
  registry = await startRegistry();
  await pushImage(registry, 'nginx-light', 'latest', await makeNginxImage(page));
  node = await startNode();
});
afterAll(async () => {
  await registry.stop();
  await node.destroy();
});

it('nginx of Debian packages is pulled, runs as its image says, and serves its page to the node and to other pods', async () => {
  const image = { image: `${registry.address}/nginx-light` };
  await node.cri.PullImage({ image });
  const web = await node.runPod();
  const { containerId } = await node.cri.CreateContainer({
    podSandboxId: web,
    config: { metadata: { name: 'nginx', attempt: 0 }, image, logPath: 'nginx.log' },
  });
  await node.cri.StartContainer({ containerId });
  const { status } = await node.cri.PodSandboxStatus({ podSandboxId: web });
  const url = `http://${status?.network?.ip}`;

  const served = await until('nginx serves', async () => (await fetch(url).catch(() => undefined))?.text());
  expect(served).toBe(page);
  expect(await (await fetch(`${url}/echo`)).text()).toBe('echoed\n');
  const { lines } = await node.output(await node.runPod(), `wget -q -O - ${url}/`);
  expect(lines).toEqual([page.trim()]);

  // The image names no user: the master is root, and its workers are www-data, as Debian's configuration has it.
  const { pid } = await inspect(node, containerId);
  const [worker = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
  expect(procStatus(pid).get('Uid')).toMatch(/^0\b/);
  expect(procStatus(Number(worker)).get('Uid')).toMatch(/^33\b/);

  await node.cri.StopContainer({ containerId, timeout: 10 });
  expect((await node.status(containerId)).exitCode).toBe(0);
});
