// cri-ts net and cri-ts net trace: what they say must be what the kernel has, and what packets then do.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeHostPortChains } from '../support/host-port-chains.ts';
import { bridgeConf, startNode, type TestNode } from '../support/node.ts';

const criTs = fileURLToPath(new URL('../../bin/cri-ts', import.meta.url));

interface ShownPod {
  id: string;
  name: string;
  netns: string;
  ips: string[];
  interfaces: { name: string; mac: string; addresses: string[]; host?: { name: string; bridge: string } }[];
  routes: string[];
  attachments: {
    file: string;
    network: string;
    ifName: string;
    plugins: { plugin: string }[];
    result: unknown;
  }[];
  rules: { masquerade: string[]; portMapping: string[] };
}

interface ShownNode {
  name: string;
  pods: ShownPod[];
}

let node: TestNode;
let clientId: string;
/** As `cri-ts net --json` shows them at first; no test changes them. */
let web: ShownPod;
let client: ShownPod;
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
  const metadata = (name: string) => ({ name, namespace: 'shop', uid: `uid-${name}`, attempt: 0 });
  const webId = await node.runPod({
    metadata: metadata('web'),
    portMappings: [{ protocol: 'TCP', containerPort: 80, hostPort: 18080, hostIp: '' }],
  });
  await node.runContainer(webId, 'httpd -f -p 80 -h /var/www');
  clientId = await node.runPod({ metadata: metadata('client') });
  await node.runContainer(clientId, 'sleep 100000');
  [web, client] = [await pod('web'), await pod('client')];
});
afterAll(async () => {
  await node.removeAll();
  await removeHostPortChains();
  await node.destroy();
});

const net = (...args: string[]) =>
  execa(criTs, ['net', ...args, '--address', node.socket], { reject: false });

async function shown(): Promise<ShownNode> {
  const { stdout } = await net('--json');
  const [only] = (JSON.parse(stdout) as { nodes: ShownNode[] }).nodes;
  if (!only) throw new Error(stdout);
  return only;
}

async function pod(name: string): Promise<ShownPod> {
  const found = (await shown()).pods.find(candidate => candidate.name === name);
  if (!found) throw new Error(`no pod ${name}`);
  return found;
}

/** @param seconds for an answer; few are enough for one that must not come */
async function answers(target: string, seconds = 25): Promise<boolean> {
  const { containers } = await node.cri.ListContainers({ filter: { podSandboxId: clientId } });
  const asked = await node.cri.ExecSync({
    containerId: containers[0]?.id ?? '',
    cmd: ['timeout', String(seconds), 'wget', '-qO-', `http://${target}/`],
    timeout: 60,
  });
  return asked.exitCode === 0;
}

describe('cri-ts net', () => {
  it("pairs each pod's interface with its other end, as the kernel does", async () => {
    const { interfaces, netns, ips, routes } = web;
    const eth0 = interfaces.find(({ name }) => name === 'eth0');
    expect(eth0?.host?.bridge).toBe(node.bridge);
    expect(eth0?.addresses).toEqual([`${ips[0]}/24`]);
    const { stdout } = await execa('ip', ['link', 'show', eth0?.host?.name ?? '']);
    expect(stdout).toContain(`link-netns ${netns.split('/').at(-1)}`);
    expect(routes).toContain(`default via ${node.subnet}.1 dev eth0`);
  });

  it('names the files, plugins and results of each network', async () => {
    const { attachments, ips } = web;
    expect(
      attachments.map(({ file, ifName, plugins }) => [file, ifName, plugins.map(({ plugin }) => plugin)]),
    ).toEqual([
      [join(node.cniConfDir, '10-pods.conflist'), 'eth0', ['bridge', 'portmap']],
      [join(node.cniConfDir, '99-loopback.conf'), 'lo', ['loopback']],
    ]);
    expect(JSON.stringify(attachments[0]?.result)).toContain(`${ips[0]}/24`);
  });

  it("gives each pod the masquerade and port rules that are its own, and no other's", async () => {
    expect(web.rules.masquerade.filter(rule => rule.includes('-j MASQUERADE'))).toHaveLength(1);
    expect(web.rules.portMapping.some(rule => rule.includes(`--to-destination ${web.ips[0]}:80`))).toBe(true);
    expect(client.rules.portMapping).toEqual([]);
    const ofWeb = [...web.rules.masquerade, ...web.rules.portMapping];
    expect([...client.rules.masquerade].filter(rule => ofWeb.includes(rule))).toEqual([]);
  });

  it('says the same as text', async () => {
    const { stdout } = await net();
    for (const word of [
      'shop/web',
      web.netns.split('/').at(-1) ?? '',
      web.ips[0] ?? '',
      node.bridge,
      '10-pods.conflist',
    ])
      expect(stdout).toContain(word);
  });

  it('draws every pod, its cable and its bridge', async () => {
    const file = join(node.directory, 'net.svg');
    await net('--svg', file);
    const svg = await readFile(file, 'utf8');
    for (const word of [
      '>web<',
      '>client<',
      web.ips[0] ?? '',
      web.interfaces[1]?.host?.name ?? '',
      `bridge ${node.bridge}`,
    ])
      expect(svg).toContain(word);
  });

  it('keeps what plugins made over a restart of the daemon', async () => {
    await node.kill();
    await node.start();
    expect(await pod('web')).toEqual(web);
  });

  it('says what is wrong when no daemon answers', async () => {
    const { exitCode, stderr } = await execa(criTs, ['net', '--address', '/nowhere/cri.sock'], {
      reject: false,
    });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('no daemon answers Status on /nowhere/cri.sock');
  });
});

describe('cri-ts net trace', () => {
  it('follows a packet over the bridge', async () => {
    const { stdout, exitCode } = await net('trace', 'client', 'shop/web');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(web.interfaces.find(({ name }) => name === 'eth0')?.mac);
    expect(stdout).toContain('delivered to pod web');
    expect(await answers(web.ips[0] ?? '')).toBe(true);
  });

  it("follows a packet from outside to a pod's host port", async () => {
    const { stdout, exitCode } = await net('trace', '198.51.100.7', `${node.subnet}.1`, '--port', '18080');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`the destination becomes ${web.ips[0]} port 80 (DNAT)`);
    expect(stdout).toContain(`delivered to pod web as 198.51.100.7 -> ${web.ips[0]}:80`);
  });

  it('does not take a port for a host port that is none', async () => {
    const { stdout } = await net('trace', '198.51.100.7', `${node.subnet}.1`, '--port', '18081');
    expect(stdout).not.toContain('DNAT');
    expect(stdout).toContain("the node's own");
  });

  it('names the rule that drops a packet', async () => {
    const elsewhere = ['-d', '203.0.113.0/24'];
    await execa('ip', ['route', 'add', '203.0.113.0/24', 'dev', node.bridge]);
    await execa('iptables', ['-A', 'FORWARD', '-s', client.ips[0] ?? '', ...elsewhere, '-j', 'DROP']);
    try {
      const { stdout, exitCode } = await net('trace', 'client', '203.0.113.5');
      expect(exitCode).toBe(1);
      expect(stdout).toContain(`-A FORWARD -s ${client.ips[0]}/32 -d 203.0.113.0/24 -j DROP`);
    } finally {
      await execa('iptables', ['-D', 'FORWARD', '-s', client.ips[0] ?? '', ...elsewhere, '-j', 'DROP']);
      await execa('ip', ['route', 'del', '203.0.113.0/24', 'dev', node.bridge]);
    }
  });

  it.each(['INPUT', 'OUTPUT'])("names a rule of the node's own %s chain", async chain => {
    const rule = [chain, '-p', 'tcp', '-m', 'tcp', '--dport', '9999', '-j', 'DROP'];
    const way = chain === 'INPUT' ? ['client', `${node.subnet}.1`] : [(await shown()).name, 'client'];
    await execa('iptables', ['-A', ...rule]);
    try {
      const { stdout, exitCode } = await net('trace', ...way, '--port', '9999');
      expect(stdout).toContain(`-A ${rule.join(' ')}`);
      expect(exitCode).toBe(1);
      expect((await net('trace', ...way, '--port', '9998')).exitCode).toBe(0);
    } finally {
      await execa('iptables', ['-D', ...rule]);
    }
  });

  it('says that nobody has an address of the bridge', async () => {
    const { stdout, exitCode } = await net('trace', 'client', `${node.subnet}.250`);
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`nobody on ${node.bridge} has the address ${node.subnet}.250`);
    expect(await answers(`${node.subnet}.250`, 2)).toBe(false);
  });

  it('lists what it knows when a name is unknown', async () => {
    const { exitCode, stderr } = await net('trace', 'client', 'nobody');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('"nobody" is no ready pod, node or IP address; known are: web, client');
  });
});
