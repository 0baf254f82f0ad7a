// cri-ts explain: the commands that it names are those that were run, and its script builds a pod that answers.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeHostPortChains } from '../support/host-port-chains.ts';
import { bridgeConf, startNode, type TestNode, until } from '../support/node.ts';

const criTs = fileURLToPath(new URL('../../bin/cri-ts', import.meta.url));

let node: TestNode;
let pod: string;
beforeAll(async () => {
  node = await startNode({
    cni: paths => {
      const { cniVersion, name, ...bridge } = bridgeConf(paths);
      const portmap = { type: 'portmap', capabilities: { portMappings: true } };
      return {
        '10-pods.conflist': { cniVersion, name, plugins: [bridge, portmap] },
        '99-loopback.conf': { cniVersion: '1.0.0', name: 'lo', type: 'loopback' },
      };
    },
  });
  pod = await node.runPod({
    metadata: { name: 'web', namespace: 'shop', uid: 'u', attempt: 0 },
    hostname: 'original',
    portMappings: [{ protocol: 'TCP', containerPort: 80, hostPort: 18081, hostIp: '' }],
    dnsConfig: { servers: ['192.0.2.53'], searches: ['shop.test'], options: [] },
  });
  await node.runContainer(pod, 'hostname > /tmp/name; exec httpd -f -p 80 -h /tmp', {
    metadata: { name: 'server', attempt: 0 },
  });
});
afterAll(async () => {
  await node.removeAll();
  await removeHostPortChains();
  await node.destroy();
});

const explain = async (...args: string[]) =>
  (await execa(criTs, ['explain', 'web', ...args, '--address', node.socket])).stdout;

interface Explained {
  steps: { name: string; began: number; ms: number; commands: string[] }[];
  containers: { name: string; steps: { name: string; commands: string[] }[] }[];
}

describe('cri-ts explain', () => {
  it('lists every step with its time, the plugins in the order of their runs', async () => {
    const { steps, containers } = JSON.parse(await explain('--json')) as Explained;
    const { info } = await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true });
    const recorded = Object.keys((JSON.parse(info.info ?? '') as { steps: object }).steps);
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(recorded));
    expect(
      steps.map(({ name }) => name.trim()).filter(name => ['bridge', 'portmap', 'loopback'].includes(name)),
    ).toEqual(['bridge', 'portmap', 'loopback']);
    expect(containers.map(({ name }) => name)).toEqual(['server']);
  });

  it('draws a timeline with a row for each step', async () => {
    const text = await explain();
    expect(text).toMatch(/^network \(CNI ADD\) +\d+\.\d ms +[#|]+$/m);
    expect(text).toMatch(/^ {2}bridge +\d+\.\d ms +[#|]+$/m);
  });

  it('gives the plugin with the environment and the input that it had, also after a restart', async () => {
    await node.kill();
    await node.start();
    const text = await explain();
    expect(text).toContain(`CNI_CONTAINERID=${pod}`);
    expect(text).toContain('CNI_IFNAME=eth0');
    expect(text).toContain('"portMappings":[{"hostPort":18081,"containerPort":80,"protocol":"tcp"}]');
    expect(text).toMatch(/runc --root \S+ run --detach --bundle \S+/);
  });

  it('refuses a pod that is not there, naming those that are', async () => {
    const { exitCode, stderr } = await execa(criTs, ['explain', 'nobody', '--address', node.socket], {
      reject: false,
    });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('there is no pod "nobody"; known are: web');
  });
});

describe('the script of cri-ts explain', () => {
  const run = (file: string, verb: string) =>
    execa('sh', [file, verb], {
      env: { ID: `${node.bridge}-by-hand`, DIR: join(node.directory, 'by-hand') },
    });

  it.each(['up', 'down'])(
    'builds a pod that answers, and takes it away, with the daemon %s',
    async daemon => {
      const file = join(node.directory, 'pod.sh');
      await writeFile(file, await explain('--script'));
      if (daemon === 'down') await node.stop();
      const before = node.snapshot();
      const { stdout } = await run(file, 'up');
      const [, address = ''] = /^eth0 ([0-9.]+)\/24/m.exec(stdout) ?? [];
      expect(address).toContain(node.subnet);
      const fetch = async (path: string) =>
        until(`${address} answers`, async () => {
          const { stdout, exitCode } = await execa('busybox', ['wget', '-qO-', `http://${address}/${path}`], {
            reject: false,
            timeout: 20_000,
          });
          return exitCode === 0 ? stdout : undefined;
        });
      expect(await fetch('name')).toBe('original');
      // It is a pod of its own: another namespace, another address, rules of its own.
      const during = node.snapshot();
      expect(during.netns.filter(name => !before.netns.includes(name))).toEqual([`${node.bridge}-by-hand`]);
      expect(
        during.firewall.some(rule => rule.includes(`-d ${address}/32`) || rule.includes(`-s ${address}/32`)),
      ).toBe(true);

      await run(file, 'down');
      await until('nothing is left', () => isDeepStrictEqual(node.snapshot(), before) || undefined).catch(
        () => {},
      );
      expect(node.snapshot()).toEqual(before);
      if (daemon === 'down') await node.start();
      expect((await node.cri.PodSandboxStatus({ podSandboxId: pod })).status?.state).toBe('SANDBOX_READY');
    },
  );
});
