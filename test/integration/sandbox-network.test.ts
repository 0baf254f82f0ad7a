// The network of pods through the CRI, with the real plugins: addresses, several networks, who reaches whom, and what
// exactly plugins are given of a pod.
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type FakePluginCall, fakePluginCalls, passesOn } from '../support/fake-plugins.ts';
import { removeHostPortChains } from '../support/host-port-chains.ts';
import { expectUnchanged, tracesAfterAPod } from '../support/leftovers.ts';
import {
  bridgeConf,
  type NodeOptions,
  type NodePaths,
  startNode,
  type TestNode,
  until,
} from '../support/node.ts';

const fixture = (name: string) =>
  readFile(fileURLToPath(new URL(`fixtures/${name}`, import.meta.url)), 'utf8');

/** Runs a test on a node of its own. */
async function onNode(options: NodeOptions, test: (node: TestNode) => Promise<void>): Promise<void> {
  const node = await startNode(options);
  try {
    await test(node);
  } finally {
    await node.destroy();
  }
}

async function networkOf(node: TestNode, podSandboxId: string) {
  const { status, info } = await node.cri.PodSandboxStatus({ podSandboxId, verbose: true });
  const ips = [status?.network?.ip ?? '', ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip)];
  return { ips, info: JSON.parse(info.info ?? '') };
}

async function ipOf(node: TestNode, pod: string): Promise<string> {
  return (await networkOf(node, pod)).ips[0] ?? '';
}

const webServer = 'exec busybox httpd -f -p 8080 -h /var/www';

/** What a web server answers, once it does. */
function fetched(url: string): Promise<string> {
  const once = () => fetch(url, { signal: AbortSignal.timeout(1000) }).then(answer => answer.text());
  return until(`${url} answers`, () => once().catch(() => undefined));
}

describe('on a bridge', () => {
  let node: TestNode;
  beforeAll(async () => {
    node = await startNode();
  });
  afterEach(() => node.removeAll());
  afterAll(() => node.destroy());

  it('a pod has eth0 with its address, a default route, and lo brought up without a plugin', async () => {
    const pod = await node.runPod();
    const ip = await ipOf(node, pod);
    const container = await node.runContainer(pod, 'sleep 1000');
    expect(await node.exec(container, 'ip -o -4 addr show eth0')).toContain(`inet ${ip}/24`);
    expect(await node.exec(container, 'ip route')).toContain(`default via ${node.subnet}.1 dev eth0`);
    expect(await node.exec(container, 'ip -o addr show lo')).toContain('inet 127.0.0.1/8');
    expect(await node.exec(container, 'ping -c1 -W2 127.0.0.1 >/dev/null && echo up')).toBe('up');
  });

  it('the containers of a pod meet on localhost', async () => {
    const pod = await node.runPod();
    await node.runContainer(pod, webServer);
    const client = await node.runContainer(pod, 'sleep 1000');
    const get = () => node.exec(client, 'wget -q -O- http://127.0.0.1:8080/ || true');
    expect(await until('the neighbour answers', async () => (await get()) || undefined)).toBe('it works');
  });

  it('the host and another pod reach a pod', async () => {
    const server = await node.runPod();
    await node.runContainer(server, webServer);
    const url = `http://${await ipOf(node, server)}:8080/`;
    expect(await fetched(url)).toBe('it works\n');
    const client = await node.runContainer(await node.runPod(), 'sleep 1000');
    expect(await node.exec(client, `wget -q -O- ${url}`)).toBe('it works');
  });

  it('a pod reaches out through the masquerade, as the node', async () => {
    const name = `out-${node.bridge}`;
    const [near, far] = [`n${node.bridge}`.slice(0, 15), `f${node.bridge}`.slice(0, 15)];
    const ip = (...args: string[]) => execa('ip', args);
    await ip('netns', 'add', name);
    onTestFinished(async () => {
      await execa('ip', ['link', 'delete', near], { reject: false });
      await execa('ip', ['netns', 'delete', name]);
    });
    await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name);
    await ip('addr', 'add', '198.51.100.1/24', 'dev', near);
    await ip('link', 'set', near, 'up');
    await ip('-n', name, 'addr', 'add', '198.51.100.2/24', 'dev', far);
    await ip('-n', name, 'link', 'set', far, 'up');
    // The outside knows no way to pods: an answer comes only to one whom the node stands in for.
    const answers =
      "require('net').createServer(s => s.end('you are ' + s.remoteAddress)).listen(7000, '198.51.100.2')";
    const outside = execa('ip', ['netns', 'exec', name, process.execPath, '-e', answers], { reject: false });
    onTestFinished(async () => {
      outside.kill();
      await outside;
    });
    const client = await node.runContainer(await node.runPod(), 'sleep 1000');
    const ask = () => node.exec(client, 'nc -w 2 198.51.100.2 7000 </dev/null || true');
    const answer = await until('the outside answers', async () => (await ask()) || undefined);
    expect(answer).toBe('you are 198.51.100.1');
  });

  it('an address is given back when the pod is stopped', async () => {
    const before = await tracesAfterAPod(node);
    const pod = await node.runPod();
    const reservation = join(node.directory, 'ipam', node.bridge, await ipOf(node, pod));
    expect((await readFile(reservation, 'utf8')).split(/\s+/)).toEqual([pod, 'eth0']);
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await expect(readFile(reservation)).rejects.toThrow('ENOENT');
    await node.removeAll();
    await expectUnchanged(node, before);
  });
});

describe('the examples that the project starts from', () => {
  it.each([
    { files: ['10-mynet.conf'], subnet: /^10\.22\.\d+\.\d+$/, network: 'mynet', lo: [] },
    {
      files: ['10-bridge.conf', '99-loopback.conf'],
      subnet: /^10\.200\.0\.\d+$/,
      network: 'bridge',
      lo: [{ network: 'lo', ifName: 'lo' }],
    },
  ])('$files work as they stand', async ({ files, subnet, network, lo }) => {
    const cni = Object.fromEntries(await Promise.all(files.map(async name => [name, await fixture(name)])));
    const node = await startNode({ cni });
    try {
      const pods = [await node.runPod(), await node.runPod()];
      const [ip = '', other = ''] = await Promise.all(pods.map(pod => ipOf(node, pod)));
      expect(ip).toMatch(subnet);
      expect(other).toMatch(subnet);
      expect(node.snapshot().reservations).toEqual([`${network}/${ip}`, `${network}/${other}`].sort());
      const { info } = await networkOf(node, pods[0] ?? '');
      expect(info.cniResult).toMatchObject([{ network, ifName: 'eth0' }, ...lo]);
      await node.runContainer(pods[0] ?? '', webServer);
      expect(await fetched(`http://${ip}:8080/`)).toBe('it works\n');
      const client = await node.runContainer(pods[1] ?? '', 'sleep 1000');
      expect(await node.exec(client, `wget -q -O- http://${ip}:8080/`)).toBe('it works');
      expect(await node.exec(client, 'ip -o addr show lo')).toContain('inet 127.0.0.1/8');
    } finally {
      await node.removeAll();
      await execa('ip', ['link', 'delete', 'cni0']);
      await rm(`/var/lib/cni/networks/${network}`, { recursive: true });
      await node.destroy();
    }
  });
});

describe('with addresses of both families', () => {
  const dualStack = (paths: NodePaths) => {
    const conf = bridgeConf(paths);
    const v6 = `fd00:${paths.subnet.split('.').slice(1).join(':')}::`;
    const ipam = {
      ...(conf.ipam as object),
      ranges: [[{ subnet: `${v6}/64` }], [{ subnet: `${paths.subnet}.0/24` }]],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    };
    return { '10-dual.conf': { ...conf, ipam } };
  };
  const preferring = (preference: string) =>
    `[plugins."io.containerd.cri.v1.runtime".cni]\n  ip_pref = "${preference}"\n`;

  it('both are the pod’s, the IPv4 one first, and the host reaches both', () =>
    onNode({ cni: dualStack }, async node => {
      const pod = await node.runPod();
      const { ips } = await networkOf(node, pod);
      expect(ips).toEqual([expect.stringContaining(node.subnet), expect.stringMatching(/^fd00:/)]);
      await node.runContainer(pod, 'exec busybox httpd -f -p [::]:8080 -h /var/www');
      expect(await fetched(`http://${ips[0]}:8080/`)).toBe('it works\n');
      expect(await fetched(`http://[${ips[1]}]:8080/`)).toBe('it works\n');
    }));

  it.each(['ipv6', 'cni'])(
    'ip_pref = "%s" puts the IPv6 one first, which the plugin returned first',
    preference =>
      onNode({ cni: dualStack, config: preferring(preference), busybox: false }, async node => {
        const { ips } = await networkOf(node, await node.runPod());
        expect(ips).toEqual([expect.stringMatching(/^fd00:/), expect.stringContaining(node.subnet)]);
      }),
  );
});

describe('with several files of configuration', () => {
  const several = (paths: NodePaths) => ({
    '10-first.conf': bridgeConf(paths),
    '20-second.conf': {
      cniVersion: '0.4.0',
      name: 'second',
      type: 'ptp',
      ipam: {
        type: 'host-local',
        dataDir: join(paths.directory, 'ipam'),
        ranges: [[{ subnet: `${paths.subnet.replace('10.83', '10.85')}.0/24` }]],
      },
    },
    '30-lo.conf': { cniVersion: '1.0.0', name: 'lo', type: 'loopback' },
  });

  it('each is an interface of the pod, in their order, and eth0’s address is the pod’s', () =>
    onNode({ cni: several }, async node => {
      const before = await tracesAfterAPod(node);
      const pod = await node.runPod();
      const { ips, info } = await networkOf(node, pod);
      const second = node.subnet.replace('10.83', '10.85');
      expect(ips).toEqual([
        expect.stringContaining(`${node.subnet}.`),
        expect.stringContaining(`${second}.`),
      ]);
      expect(info.cniResult).toMatchObject([
        { network: node.bridge, ifName: 'eth0', file: join(node.cniConfDir, '10-first.conf') },
        { network: 'second', ifName: 'eth1' },
        { network: 'lo', ifName: 'lo' },
      ]);
      const container = await node.runContainer(pod, 'sleep 1000');
      expect(await node.exec(container, 'ip -o -4 addr show eth0')).toContain(ips[0]);
      expect(await node.exec(container, 'ip -o -4 addr show eth1')).toContain(ips[1]);
      expect(await node.exec(container, 'ip -o -4 addr show lo')).toContain('127.0.0.1/8');
      await node.removeAll();
      await expectUnchanged(node, before);
    }));

  it('max_conf_num = 1 takes the first alone', () =>
    onNode(
      {
        cni: several,
        config: '[plugins."io.containerd.cri.v1.runtime".cni]\n  max_conf_num = 1\n',
        busybox: false,
      },
      async node => {
        const { ips, info } = await networkOf(node, await node.runPod());
        expect(ips).toHaveLength(1);
        expect(info.cniResult.map(({ ifName }: { ifName: string }) => ifName)).toEqual(['eth0']);
      },
    ));
});

describe('ports of the host', () => {
  let node: TestNode;
  beforeAll(async () => {
    node = await startNode({
      cni: paths => ({
        '10-main.conflist': {
          cniVersion: '1.0.0',
          name: paths.bridge,
          plugins: [bridgeConf(paths), { type: 'portmap', snat: true, capabilities: { portMappings: true } }],
        },
      }),
    });
  });
  afterEach(() => node.removeAll());
  afterAll(async () => {
    await node.removeAll();
    await removeHostPortChains();
    await node.destroy();
  });

  it('lead to the pod that has them mapped, until it is stopped', async () => {
    const port = { protocol: 'TCP', containerPort: 8080, hostPort: 18080 } as const;
    const first = await node.runPod({ portMappings: [{ ...port, hostPort: 18079 }] });
    await node.cri.RemovePodSandbox({ podSandboxId: first });
    const before = node.snapshot();
    const pod = await node.runPod({ portMappings: [port, { ...port, containerPort: 9, hostPort: 0 }] });
    await node.runContainer(pod, webServer);
    for (const host of ['127.0.0.1', `${node.subnet}.1`]) {
      expect(await fetched(`http://${host}:18080/`)).toBe('it works\n');
    }
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    await expect(fetch('http://127.0.0.1:18080/')).rejects.toThrow();
    expect(node.snapshot().firewall).toEqual(before.firewall);
  });

  it('are open on the host address alone that was asked for', async () => {
    const port = { protocol: 'TCP', containerPort: 8080, hostPort: 18081, hostIp: '127.0.0.1' } as const;
    const pod = await node.runPod({ portMappings: [port] });
    await node.runContainer(pod, webServer);
    expect(await fetched('http://127.0.0.1:18081/')).toBe('it works\n');
    await expect(fetch(`http://${node.subnet}.1:18081/`)).rejects.toThrow();
  });
});

describe('what plugins are given of a pod', () => {
  const capabilities = {
    portMappings: true,
    bandwidth: true,
    dns: true,
    cgroupPath: true,
    'io.kubernetes.cri.pod-annotations': true,
  };
  const metadata = { name: 'web', namespace: 'shop', uid: 'uid-7', attempt: 2 };
  const annotations = {
    'kubernetes.io/ingress-bandwidth': '10M',
    'kubernetes.io/egress-bandwidth': '1.5Mi',
    'example.com/other': 'x',
  };
  const dnsConfig = { servers: ['10.96.0.10'], searches: ['svc.local'], options: ['ndots:5'] };
  let node: TestNode;
  beforeAll(async () => {
    node = await startNode({
      busybox: false,
      plugins: { recorder: {}, capable: { ADD: passesOn } },
      cni: {
        '10-recorded.conflist': {
          cniVersion: '1.0.0',
          name: 'recorded',
          plugins: [
            { type: 'recorder', kept: { as: ['it', 'is'] } },
            { type: 'capable', capabilities },
          ],
        },
        '20-more.conf': { cniVersion: '0.3.1', name: 'more', type: 'recorder' },
      },
    });
  });
  afterEach(() => node.removeAll());
  afterAll(() => node.destroy());

  const callsOf = (pod: string): Promise<FakePluginCall[]> => fakePluginCalls(node.pluginDir, pod);

  it('is who it is (CNI_ARGS), its namespace and interface; ADD in order, DEL in reverse', async () => {
    const pod = await node.runPod({ metadata });
    const { netNamespace } = (await networkOf(node, pod)).info;
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    const calls = await callsOf(pod);
    const order = ['recorder eth0', 'capable eth0', 'recorder eth1'];
    expect(calls.map(({ verb, plugin, ifName }) => `${verb} ${plugin} ${ifName}`)).toEqual([
      ...order.map(call => `ADD ${call}`),
      ...order.reverse().map(call => `DEL ${call}`),
    ]);
    for (const call of calls) {
      expect(call.netns).toBe(netNamespace);
      expect(call.path).toBe(`${node.pluginDir}:/usr/lib/cni`);
      expect(call.args.split(';').sort()).toEqual([
        'IgnoreUnknown=1',
        `K8S_POD_INFRA_CONTAINER_ID=${pod}`,
        'K8S_POD_NAME=web',
        'K8S_POD_NAMESPACE=shop',
        'K8S_POD_UID=uid-7',
      ]);
    }
  });

  it('is what the configuration says, and the result of the plugin before it', async () => {
    const [first, second] = await callsOf(await node.runPod());
    expect(first?.config).toEqual({
      cniVersion: '1.0.0',
      name: 'recorded',
      type: 'recorder',
      kept: { as: ['it', 'is'] },
    });
    expect(second?.config).toEqual({
      cniVersion: '1.0.0',
      name: 'recorded',
      type: 'capable',
      prevResult: expect.objectContaining({ ips: [{ address: '192.0.2.77/24' }] }),
      runtimeConfig: { cgroupPath: node.cgroupParent },
    });
  });

  it('is by capability: ports, bandwidth, DNS, cgroup and annotations, to ADD and to DEL', async () => {
    const portMappings = [
      { protocol: 'TCP', containerPort: 80, hostPort: 8080, hostIp: '192.0.2.1' },
      { protocol: 'UDP', containerPort: 53, hostPort: 5353 },
      { protocol: 'SCTP', containerPort: 7, hostPort: 7 },
      { protocol: 'TCP', containerPort: 9000 },
    ] as const;
    const pod = await node.runPod({ metadata, annotations, dnsConfig, portMappings: [...portMappings] });
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    const given = (await callsOf(pod)).filter(({ plugin }) => plugin === 'capable');
    expect(given.map(({ verb }) => verb)).toEqual(['ADD', 'DEL']);
    for (const { config } of given) {
      expect(config.runtimeConfig).toEqual({
        portMappings: [
          { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
          { hostPort: 5353, containerPort: 53, protocol: 'udp' },
          { hostPort: 7, containerPort: 7, protocol: 'sctp' },
        ],
        bandwidth: {
          ingressRate: 10_000_000,
          ingressBurst: 2 ** 32 - 1,
          egressRate: 1_572_864,
          egressBurst: 2 ** 32 - 1,
        },
        dns: dnsConfig,
        cgroupPath: node.cgroupParent,
        'io.kubernetes.cri.pod-annotations': annotations,
      });
    }
    for (const { plugin, config } of await callsOf(pod)) {
      if (plugin === 'recorder') expect(config).not.toHaveProperty('runtimeConfig');
    }
  });

  it('is at DEL what ADD used, also when the files have changed or gone since', async () => {
    const file = join(node.cniConfDir, '10-recorded.conflist');
    const text = await readFile(file, 'utf8');
    const pod = await node.runPod();
    await writeFile(
      file,
      JSON.stringify({ cniVersion: '1.0.0', name: 'new', type: 'recorder', plugins: [] }),
    );
    await rm(join(node.cniConfDir, '20-more.conf'));
    await until('the change is seen', async () => {
      const { status } = await node.cri.Status();
      return status?.conditions.some(({ type, status }) => type === 'NetworkReady' && !status) || undefined;
    });
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    const dels = (await callsOf(pod)).filter(({ verb }) => verb === 'DEL');
    expect(dels.map(({ plugin, config }) => `${config.name} ${plugin}`)).toEqual([
      'more recorder',
      'recorded capable',
      'recorded recorder',
    ]);
    expect(dels.at(-1)?.config).toMatchObject({
      kept: { as: ['it', 'is'] },
      prevResult: { ips: [{ address: '192.0.2.77/24' }] },
    });
    await writeFile(file, text);
    await writeFile(
      join(node.cniConfDir, '20-more.conf'),
      JSON.stringify({ cniVersion: '0.3.1', name: 'more', type: 'recorder' }),
    );
    await until('the network is ready again', async () => {
      const { status } = await node.cri.Status();
      return status?.conditions.every(condition => condition.status) || undefined;
    });
  });

  it('tells DEL by an empty CNI_NETNS that the namespace has gone', async () => {
    const pod = await node.runPod();
    const { netNamespace, pid } = (await networkOf(node, pod)).info;
    process.kill(pid, 'SIGKILL'); // a namespace that a process lives in could still be found
    await execa('ip', ['netns', 'delete', netNamespace.split('/').at(-1)]);
    await node.cri.StopPodSandbox({ podSandboxId: pod });
    const dels = (await callsOf(pod)).filter(({ verb }) => verb === 'DEL');
    expect(dels.map(({ netns }) => netns)).toEqual(['', '', '']);
  });
});
