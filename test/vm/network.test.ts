// Pods' network on this node: IPv4 and IPv6 at once, and host ports with either of the kernel's two iptables.
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeHostPortChains } from '../support/host-port-chains.ts';
import { type InstalledNode, installedNode, type Pod } from '../support/installed-node.ts';
import { until } from '../support/node.ts';

let node: InstalledNode;
beforeAll(async () => {
  node = await installedNode();
});
afterAll(() => node.leave());

const addressesOf = async ({ id }: Pod) => {
  const { status } = await node.cri.PodSandboxStatus({ podSandboxId: id });
  return [status?.network?.ip ?? '', ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip)];
};

const serve = 'mkdir -p /www; echo it works > /www/index.html; exec httpd -f -p 80 -h /www';
const inBrackets = (address: string) => (address.includes(':') ? `[${address}]` : address);

/** What a program on the node gets from there; tried until something serves. */
const fetched = (url: string) =>
  until(`${url} answers`, async () => {
    const { stdout, exitCode } = await execa('busybox', ['wget', '-q', '-T', '10', '-O', '-', url], {
      reject: false,
    });
    return exitCode === 0 ? stdout : undefined;
  });

it('pods have an address of each family, reach each other by both, and give both back', async () => {
  const [server, client] = [await node.runPod(), await node.runPod()];
  await node.runContainer(server, serve);
  const shell = await node.runContainer(client, 'exec sleep 1000');
  const addresses = await addressesOf(server);
  expect(addresses).toEqual([expect.stringMatching(/^10\.85\./), expect.stringMatching(/^fd00:85:/)]);
  for (const address of addresses) {
    const url = `http://${inBrackets(address)}/`;
    expect(await fetched(url)).toBe('it works');
    expect(await node.exec(shell, `wget -q -T 60 -O - ${url}`)).toBe('it works');
  }
  await node.removeAll();
  const { stdout } = await execa('find', [
    '/var/lib/cni/networks/pods',
    '-name',
    '*.*.*.*',
    '-o',
    '-name',
    'fd*',
  ]);
  expect(stdout).toBe('');
});

describe.each(['nft', 'legacy'])('with iptables-%s', mode => {
  const use = (which: string) =>
    Promise.all(
      ['iptables', 'ip6tables'].map(name =>
        execa('update-alternatives', ['--set', name, `/usr/sbin/${name}-${which}`]),
      ),
    );
  beforeAll(() => use(mode));
  afterAll(async () => {
    await removeHostPortChains();
    await use('nft');
  });

  const rulesOf = async (command: string) => {
    const { stdout } = await execa(command, []);
    return stdout.split('\n').filter(line => line.startsWith('-A') && line.includes('CNI'));
  };

  it('a host port leads to the pod, by rules of that kind, which go with it', async () => {
    const portMappings = [{ protocol: 'TCP' as const, containerPort: 80, hostPort: 8080 }];
    const pod = await node.runPod({ portMappings });
    await node.runContainer(pod, serve);
    expect(await fetched('http://10.0.2.15:8080/')).toBe('it works');
    expect((await rulesOf(`iptables-${mode}-save`)).join('\n')).toContain('--dport 8080');
    expect((await rulesOf(`ip6tables-${mode}-save`)).join('\n')).toContain('--dport 8080');
    await node.removeAll();
    for (const command of [`iptables-${mode}-save`, `ip6tables-${mode}-save`])
      expect((await rulesOf(command)).join('\n')).not.toContain('--dport 8080');
  });
});
