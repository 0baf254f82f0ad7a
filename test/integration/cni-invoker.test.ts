// The CNI invoker with the real plugins. The tests run in a network and mount namespace of their own, into which
// the file starts itself once more, so that bridges, iptables rules, /run/netns and IP reservations
// are gone with it whatever happens.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  containerAddresses,
  createInvoker,
  type Invoker,
  type LoadedNetworks,
  loadNetworks,
  type PluginRun,
} from '../../src/cni-invoker/index.ts';
import { run } from '../../src/host/process.ts';

const binDirs = ['/usr/lib/cni'];
const inside = process.env.CRI_TS_TEST_INSIDE === 'cni-invoker';

if (!inside)
  describe('in namespaces of their own', () => {
    it('the tests of this file pass', { timeout: 900_000 }, async () => {
      const root = fileURLToPath(new URL('../..', import.meta.url));
      const prepare =
        'mount -t tmpfs tmpfs /run && mkdir /run/netns && mount -t tmpfs tmpfs /var/lib && ip link set lo up';
      const vitest = [
        process.execPath,
        join(root, 'node_modules/vitest/vitest.mjs'),
        'run',
        fileURLToPath(import.meta.url),
      ];
      const result = await run(
        'unshare',
        ['-n', '-m', 'sh', '-c', `${prepare} && exec "$@"`, 'sh', ...vitest],
        {
          cwd: root,
          env: {
            PATH: process.env.PATH ?? '',
            HOME: process.env.HOME ?? '/',
            CRI_TS_TEST_INSIDE: 'cni-invoker',
          },
          timeoutMs: 880_000,
        },
      );
      expect(result.exitCode, `${result.outcome}\n${result.stdout}\n${result.stderr}`).toBe(0);
    });
  });

async function sh(script: string): Promise<string> {
  const result = await run('/bin/sh', ['-ec', script]);
  if (result.exitCode !== 0) throw new Error(`${script}: ${result.outcome}: ${result.stderr}`);
  return result.stdout;
}

interface Node {
  dir: string;
  confDir: string;
  cacheDir: string;
  invoker: Invoker;
  runs: PluginRun[];
  load(): Promise<LoadedNetworks>;
  /** A namespace at /run/netns/NAME, and the parameters of a container in it. */
  container(name: string): Promise<{ containerId: string; netns: string }>;
}

/** A node with these configuration files. */
async function node(files: Record<string, unknown>): Promise<Node> {
  const dir = await mkdtemp(join(tmpdir(), 'cri-ts-cni-'));
  const confDir = join(dir, 'net.d');
  const cacheDir = join(dir, 'cache');
  await mkdir(confDir);
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(confDir, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  const runs: PluginRun[] = [];
  onTestFinished(async () => {
    await sh('ip -o link show type bridge | cut -d: -f2 | xargs -r -n1 ip link del');
    await sh('ip netns list | cut -d" " -f1 | xargs -r -n1 ip netns del');
    await sh('iptables -t nat -F; iptables -t nat -X; iptables -F; iptables -X; rm -rf /var/lib/cni');
    await rm(dir, { recursive: true, force: true });
  });
  return {
    dir,
    confDir,
    cacheDir,
    runs,
    invoker: createInvoker({ binDirs, cacheDir, onPluginRun: run => runs.push(run) }),
    load: () => loadNetworks({ confDir, binDirs }),
    async container(name) {
      await sh(`ip netns add ${name}`);
      return { containerId: `container-${name}`, netns: `/run/netns/${name}` };
    },
  };
}

// The three examples, to the letter.
const mynet = `{
    "cniVersion": "0.2.0",
    "name": "mynet",
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": true,
    "ipMasq": true,
    "ipam": {
        "type": "host-local",
        "subnet": "10.22.0.0/16",
        "routes": [
            { "dst": "0.0.0.0/0" }
             ]
     }
}
`;
const bridge = `{
  "cniVersion": "1.0.0",
  "name": "bridge",
  "type": "bridge",
  "bridge": "cni0",
  "isGateway": true,
  "ipMasq": true,
  "ipam": {
    "type": "host-local",
    "ranges": [[{"subnet": "10.200.0.0/24"}]],
    "routes": [{"dst": "0.0.0.0/0"}]
  }
}
`;
const loopback = `{
  "cniVersion": "1.1.0",
  "name": "lo",
  "type": "loopback"
}
`;

const reservations = async (network: string): Promise<string[]> =>
  (await readdir(`/var/lib/cni/networks/${network}`))
    .filter(name => /^[\d.]+$/.test(name) && name.includes('.'))
    .filter(name => !name.startsWith('last'));

if (inside)
  describe('the real plugins', () => {
    beforeAll(async () => {
      // A guard: what follows must never touch the host's own network.
      expect((await sh('ip -o link')).trim().split('\n')).toHaveLength(1);
    });

    it('run the bridge and loopback examples as they stand, each file an interface', async () => {
      const made = await node({ '10-bridge.conf': bridge, '99-loopback.conf': loopback });
      const loaded = await made.load();
      expect(loaded).toMatchObject({ usable: true, problems: [], warnings: [] });
      const blue = await made.container('blue');
      const attachments = await made.invoker.addAll(loaded.networks, blue);
      expect(attachments).toMatchObject([
        { network: 'bridge', ifName: 'eth0', result: { cniVersion: '1.1.0' } },
        { network: 'lo', ifName: 'lo', result: { cniVersion: '1.1.0' } },
      ]);
      const addresses = containerAddresses(attachments);
      expect(addresses).toEqual([expect.stringMatching(/^10\.200\.0\.\d+$/)]);
      const links = await sh('ip -n blue -br addr');
      expect(links).toMatch(/^lo .*127\.0\.0\.1\/8/m);
      expect(links).toContain(`${addresses[0]}/24`);
      expect(await sh('ip -n blue route')).toContain('default via 10.200.0.1');
      expect(await sh('ip netns exec blue busybox ping -c1 -W5 10.200.0.1')).toContain(', 0% packet loss');
      expect(await sh('iptables -t nat -S')).toContain(addresses[0]);
      expect(await made.invoker.checkAll(blue.containerId)).toEqual([
        { network: 'bridge', ifName: 'eth0', outcome: 'checked' },
        { network: 'lo', ifName: 'lo', outcome: 'checked' },
      ]);

      await made.invoker.delAll(blue);
      expect(await sh('ip -n blue -br link')).not.toContain('eth0');
      expect(await sh('ip -br link')).not.toContain('veth');
      expect(await sh('iptables -t nat -S')).not.toContain('10.200.');
      expect(await reservations('bridge')).toEqual([]);
      expect(await readdir(join(made.cacheDir, 'results'))).toEqual([]);
    });

    it('run the example of version 0.2.0 as it stands, also beside files of other versions', async () => {
      const made = await node({
        '05-mynet.conf': mynet,
        '10-second.conf': {
          cniVersion: '0.4.0',
          name: 'second',
          type: 'bridge',
          bridge: 'br-second',
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.23.0.0/24' }], [{ subnet: 'fd00:23::/64' }]] },
        },
        '99-loopback.conf': loopback,
      });
      const loaded = await made.load();
      const [blue, green] = [await made.container('blue'), await made.container('green')];
      const attachments = await made.invoker.addAll(loaded.networks, blue);
      await made.invoker.addAll(loaded.networks, green);
      expect(attachments.map(({ ifName, network }) => `${ifName}=${network}`)).toEqual([
        'eth0=mynet',
        'eth1=second',
        'lo=lo',
      ]);
      expect(attachments[0]?.result).toMatchObject({
        ips: [{ address: expect.stringMatching(/^10\.22\.\d+\.\d+\/16$/), gateway: '10.22.0.1' }],
        routes: [{ dst: '0.0.0.0/0' }],
      });
      expect(containerAddresses(attachments)).toEqual([
        expect.stringMatching(/^10\.22\./),
        expect.stringMatching(/^10\.23\./),
        expect.stringMatching(/^fd00:23::/),
      ]);
      const [first] = containerAddresses(attachments);
      expect(await sh(`ip netns exec green busybox ping -c1 -W5 ${first}`)).toContain(', 0% packet loss');
      expect(
        made.runs.filter(run => run.verb === 'ADD').map(run => JSON.parse(run.stdin).cniVersion),
      ).toEqual(Array(2).fill(['0.2.0', '0.4.0', '1.0.0']).flat());
      for (const container of [blue, green]) await made.invoker.delAll(container);
      expect(await sh('ip -br link')).not.toContain('veth');
      expect([...(await reservations('mynet')), ...(await reservations('second'))]).toEqual([]);
    });

    it('run the loopback example in version 1.1.0 by a plugin that goes up to 1.0.0', async () => {
      const made = await node({ '99-loopback.conf': loopback });
      const [config] = (await made.load()).networks;
      if (config === undefined) throw new Error('the loopback example was not loaded');
      const { supportedVersions } = await made.invoker.version('loopback');
      const highest = supportedVersions.includes('1.1.0') ? '1.1.0' : '1.0.0';
      expect(await made.invoker.prepare(config.network)).toBe(highest);
      const blue = await made.container('blue');
      const result = await made.invoker.add(config.network, { ...blue, ifName: 'lo' });
      expect(result).toMatchObject({
        cniVersion: '1.1.0',
        interfaces: [{ name: 'lo', sandbox: blue.netns }],
        ips: [{ address: '127.0.0.1/8' }, { address: '::1/128' }],
      });
    });

    it.each(['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'])(
      'speak version %s',
      async cniVersion => {
        const made = await node({
          '1.conf': { ...JSON.parse(bridge), cniVersion },
          '2.conf': { ...JSON.parse(loopback), cniVersion },
        });
        const blue = await made.container('blue');
        const attachments = await made.invoker.addAll((await made.load()).networks, blue);
        expect(containerAddresses(attachments)).toEqual([expect.stringMatching(/^10\.200\.0\./)]);
        expect(attachments[1]?.result.ips.map(ip => ip.address)).toEqual(['127.0.0.1/8', '::1/128']);
        await made.invoker.delAll(blue);
        expect(await reservations('bridge')).toEqual([]);
      },
    );

    const chain = (...plugins: object[]) => ({
      cniVersion: '1.0.0',
      name: 'chain',
      plugins: [{ ...JSON.parse(bridge), name: undefined, cniVersion: undefined }, ...plugins],
    });

    it('chain bridge, tuning and portmap with their capability arguments', async () => {
      const made = await node({
        '1.conflist': chain(
          { type: 'tuning', capabilities: { mac: true }, sysctl: { 'net.ipv4.conf.eth0.proxy_arp': '1' } },
          { type: 'portmap', capabilities: { portMappings: true }, snat: false },
        ),
      });
      const blue = await made.container('blue');
      const mac = 'c2:11:22:33:44:55';
      const attachments = await made.invoker.addAll((await made.load()).networks, {
        ...blue,
        args: [
          ['IgnoreUnknown', '1'],
          ['K8S_POD_NAME', 'web'],
        ],
        capabilityArgs: { mac, portMappings: [{ hostPort: 18080, containerPort: 80, protocol: 'tcp' }] },
      });
      expect(attachments[0]?.result.interfaces).toContainEqual(
        expect.objectContaining({ name: 'eth0', mac }),
      );
      expect(await sh('ip -n blue link show eth0')).toContain(mac);
      expect(await sh('ip netns exec blue cat /proc/sys/net/ipv4/conf/eth0/proxy_arp')).toBe('1\n');
      expect(await sh('iptables -t nat -S')).toContain(
        `--to-destination ${containerAddresses(attachments)[0]}:80`,
      );
      await made.invoker.delAll(blue);
      expect(await sh('iptables -t nat -S')).not.toContain('18080');
      expect(await reservations('chain')).toEqual([]);
    });

    it('tell by CHECK whether the attachment is as they left it', async () => {
      // Not with portmap, whose version 1.1.1 looks for IPv6 rules also where there is no IPv6 address.
      const made = await node({ '1.conflist': chain({ type: 'tuning', capabilities: { mac: true } }) });
      const blue = await made.container('blue');
      await made.invoker.addAll((await made.load()).networks, {
        ...blue,
        capabilityArgs: { mac: 'c2:11:22:33:44:55' },
      });
      expect(await made.invoker.checkAll(blue.containerId)).toMatchObject([{ outcome: 'checked' }]);
      await sh('ip -n blue addr flush dev eth0');
      await expect(made.invoker.checkAll(blue.containerId)).rejects.toMatchObject({
        kind: 'plugin-failed',
        details: { verb: 'CHECK', plugin: '/usr/lib/cni/bridge' },
      });
      await made.invoker.delAll(blue);
    });

    it('give the addresses that the ips capability asks for', async () => {
      const conf = JSON.parse(bridge);
      const made = await node({ '1.conf': { ...conf, capabilities: { ips: true } } });
      const blue = await made.container('blue');
      const attachments = await made.invoker.addAll((await made.load()).networks, {
        ...blue,
        capabilityArgs: { ips: ['10.200.0.77'] },
      });
      expect(containerAddresses(attachments)).toEqual(['10.200.0.77']);
      await made.invoker.delAll(blue);
    });

    it('limit bandwidth where the kernel can, and leave nothing where it cannot', async () => {
      const made = await node({
        '1.conflist': chain({ type: 'bandwidth', capabilities: { bandwidth: true } }),
      });
      const blue = await made.container('blue');
      const rate = {
        ingressRate: 1_000_000,
        ingressBurst: 1_000_000,
        egressRate: 2_000_000,
        egressBurst: 1_000_000,
      };
      const kernelCan = await sh(
        'ip link add ifbtest type ifb && tc qdisc add dev ifbtest root tbf rate 1mbit burst 32kbit latency 1ms && ip link del ifbtest',
      ).then(
        () => true,
        () => false,
      );
      const adding = made.invoker.addAll((await made.load()).networks, {
        ...blue,
        capabilityArgs: { bandwidth: rate },
      });
      if (kernelCan) {
        await adding;
        expect(await sh('tc qdisc show')).toContain('tbf');
        await made.invoker.delAll(blue);
      } else {
        await expect(adding).rejects.toMatchObject({ details: { plugin: '/usr/lib/cni/bandwidth' } });
      }
      expect(await sh('ip -br link')).not.toMatch(/veth|ifb/);
      expect(await sh('iptables -t nat -S')).not.toContain('10.200.');
      expect(await reservations('chain')).toEqual([]);
    });

    it('are undone when a later one of the chain fails', async () => {
      const made = await node({
        '00-first.conf': { ...JSON.parse(bridge), name: 'first', bridge: 'br-first', ipMasq: false },
        '10.conflist': chain({ type: 'tuning', sysctl: { 'net.no.such.key': '1' } }, { type: 'portmap' }),
      });
      const blue = await made.container('blue');
      await expect(made.invoker.addAll((await made.load()).networks, blue)).rejects.toMatchObject({
        kind: 'plugin-failed',
        message: expect.stringContaining('tuning'),
      });
      const calls = made.runs
        .filter(run => run.verb !== 'VERSION')
        .map(run => `${run.verb} ${run.plugin} ${run.outcome}`);
      expect(calls).toEqual([
        'ADD bridge ok',
        'ADD bridge ok',
        'ADD tuning plugin-failed',
        'DEL portmap ok',
        'DEL tuning ok',
        'DEL bridge ok',
        'DEL bridge ok',
      ]);
      expect(await sh('ip -n blue -br link')).not.toContain('eth');
      expect(await sh('iptables -t nat -S')).not.toContain('10.200.');
      expect([...(await reservations('first')), ...(await reservations('chain'))]).toEqual([]);
      expect((await made.invoker.cachedAttachments()).attachments).toEqual([]);
    });

    it('release the address when the namespace is gone, with files that have changed, as often as asked', async () => {
      const made = await node({ '10-bridge.conf': bridge, '99-loopback.conf': loopback });
      const blue = await made.container('blue');
      await made.invoker.addAll((await made.load()).networks, blue);
      expect(await reservations('bridge')).toHaveLength(1);
      await sh('umount /run/netns/blue');
      await writeFile(join(made.confDir, '10-bridge.conf'), '{ broken');
      for (let i = 0; i < 2; i++) await made.invoker.delAll(blue);
      expect(await reservations('bridge')).toEqual([]);
      // The kernel removes what is in a namespace some time after its last user has gone.
      await expect.poll(() => sh('ip -br link'), { timeout: 30_000 }).not.toContain('veth');
    });

    it('are undone after an ADD that was cut short by a kill', async () => {
      const made = await node({ '10-bridge.conf': bridge });
      const blue = await made.container('blue');
      const [config] = (await made.load()).networks;
      if (config === undefined) throw new Error('the bridge example was not loaded');
      await made.invoker.add(config.network, { ...blue, ifName: 'eth0' });
      // What a killed daemon leaves: the plugins' work, and the record without a result.
      const record = join(made.cacheDir, 'results', `bridge-${blue.containerId}-eth0`);
      const { result: _, ...cut } = JSON.parse(await readFile(record, 'utf8'));
      await writeFile(record, JSON.stringify(cut));
      await createInvoker({ binDirs, cacheDir: made.cacheDir }).delAll(blue);
      expect(await reservations('bridge')).toEqual([]);
      expect(await sh('iptables -t nat -S')).not.toContain('10.200.');
      expect(await sh('ip -br link')).not.toContain('veth');
    });

    it('keep what is valid and lose the rest in a GC', async () => {
      const made = await node({ '10-bridge.conf': bridge, '99-loopback.conf': loopback });
      const { networks } = await made.load();
      const [blue, green] = [await made.container('blue'), await made.container('green')];
      for (const container of [blue, green]) await made.invoker.addAll(networks, container);
      await made.invoker.gcAll(
        networks,
        ['eth0', 'lo'].map(ifName => ({ containerId: green.containerId, ifName })),
      );
      expect(await reservations('bridge')).toHaveLength(1);
      expect(await sh('ip -n blue -br link')).not.toContain('eth0');
      expect(await sh('ip -n green -br link')).toContain('eth0');
      await made.invoker.checkAll(green.containerId);
      await made.invoker.delAll(green);
    });

    it('add and delete many containers at the same time', async () => {
      const made = await node({ '10-bridge.conf': bridge, '99-loopback.conf': loopback });
      const { networks } = await made.load();
      const containers = await Promise.all(Array.from({ length: 8 }, (_, i) => made.container(`many${i}`)));
      const added = await Promise.all(containers.map(container => made.invoker.addAll(networks, container)));
      expect(new Set(added.flatMap(containerAddresses)).size).toBe(8);
      await Promise.all(containers.map(container => made.invoker.delAll(container)));
      expect(await reservations('bridge')).toEqual([]);
      expect(await sh('iptables -t nat -S')).not.toContain('10.200.');
    });

    it('answer VERSION', async () => {
      const made = await node({});
      for (const type of ['bridge', 'loopback', 'portmap', 'host-local', 'tuning']) {
        const info = await made.invoker.version(type);
        expect(info.path).toBe(`/usr/lib/cni/${type}`);
        expect(info.supportedVersions).toContain('1.0.0');
      }
    });
  });

if (inside)
  describe('cri-ts cni', () => {
    async function cni(made: Node, ...args: string[]) {
      const root = fileURLToPath(new URL('../..', import.meta.url));
      const script = `import { cniCommand } from ${JSON.stringify(join(root, 'src/cli/cni.ts'))};
await cniCommand().parseAsync(process.argv.slice(1), { from: 'user' });`;
      const flags = ['--conf-dir', made.confDir, '--cache-dir', made.cacheDir, '--bin-dir', '/usr/lib/cni'];
      const tsx = join(root, 'node_modules/tsx/dist/loader.mjs');
      const argv = [
        '--import',
        `file://${tsx}`,
        '--input-type=module',
        '-e',
        script,
        '--',
        ...args,
        ...flags,
      ];
      return run(process.execPath, argv, { cwd: root });
    }

    it('adds, checks, lists, collects and deletes by hand', async () => {
      const made = await node({ '10-mynet.conf': mynet, '99-loopback.conf': loopback });
      const blue = await made.container('blue');
      const status = await cni(made, 'status');
      expect(JSON.parse(status.stdout)).toMatchObject({
        ready: true,
        networks: [{ network: 'mynet' }, { network: 'lo' }],
      });
      const added = await cni(
        made,
        'add',
        blue.netns,
        '--args',
        'IgnoreUnknown=1;A=b',
        '--capability-args',
        '{}',
      );
      expect(JSON.parse(added.stdout)).toMatchObject([
        { network: 'mynet', ifName: 'eth0', result: { cniVersion: '0.2.0', ip4: { gateway: '10.22.0.1' } } },
        { network: 'lo', ifName: 'lo', result: { cniVersion: '1.1.0' } },
      ]);
      expect(JSON.parse((await cni(made, 'check', blue.netns)).stdout)).toEqual([
        { network: 'mynet', ifName: 'eth0', outcome: 'unsupported' },
        { network: 'lo', ifName: 'lo', outcome: 'checked' },
      ]);
      expect(JSON.parse((await cni(made, 'gc')).stdout).kept).toHaveLength(2);
      expect(await cni(made, 'del', blue.netns)).toMatchObject({ exitCode: 0, stderr: '' });
      expect(await reservations('mynet')).toEqual([]);
      expect(await sh('ip -n blue -br link')).not.toContain('eth0');
    });

    it('works on one network by its name, and tells what went wrong', async () => {
      const made = await node({ '10-mynet.conf': mynet, '99-loopback.conf': loopback });
      const blue = await made.container('blue');
      const one = await cni(
        made,
        'add',
        blue.netns,
        '--network',
        'mynet',
        '--ifname',
        'net7',
        '--container-id',
        'x',
      );
      expect(JSON.parse(one.stdout)).toMatchObject({ cniVersion: '0.2.0' });
      expect(await sh('ip -n blue -br link')).toContain('net7');
      const again = await cni(
        made,
        'add',
        blue.netns,
        '--network',
        'mynet',
        '--ifname',
        'net7',
        '--container-id',
        'x',
      );
      expect(again.exitCode).toBe(1);
      expect(JSON.parse(again.stderr)).toMatchObject({ kind: 'already-attached' });
      const unknown = await cni(made, 'del', blue.netns, '--network', 'none');
      expect(JSON.parse(unknown.stderr).message).toContain('there are: mynet, lo');
      const gone = await cni(
        made,
        'del',
        blue.netns,
        '--network',
        'mynet',
        '--ifname',
        'net7',
        '--container-id',
        'x',
      );
      expect(gone.exitCode).toBe(0);
      expect(await reservations('mynet')).toEqual([]);
    });
  });
