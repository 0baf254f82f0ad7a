// The walk across two nodes, kept true: each way a packet can go is tried on the machines that hack/hard-way.sh makes,
// and so is each way it must not. The script's own walk is run as a whole, twice.
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HostSnapshot, hostSnapshot } from '../support/host-snapshot.ts';

const script = fileURLToPath(new URL('../../hack/hard-way.sh', import.meta.url));
const podTool = fileURLToPath(new URL('../../hack/hard-way/pod', import.meta.url));
const services = fileURLToPath(new URL('../../hack/hard-way/services.nft.sh', import.meta.url));
const criTs = fileURLToPath(new URL('../../bin/cri-ts', import.meta.url));
const patience = 300_000;
/** Seconds for an answer that comes, also from a machine with much to do; and for one that must not. */
const plenty = 25;
const few = 2;

interface Machines {
  directory: string;
  /** Runs the script with these flags. */
  hardWay(...flags: string[]): Promise<string>;
  /** Output of a command in a pod's container; rejects when it fails. */
  inPod(node: string, name: string, ...command: string[]): Promise<string>;
  /** Output of a command in a machine's namespace; rejects when it fails. */
  on(machine: string, ...command: string[]): Promise<string>;
  /** What the web server at the address says, asked from a pod; rejects when there is no answer in time. */
  who(node: string, name: string, address: string, seconds?: number): Promise<string>;
  /** The same, asked from a machine. */
  whoFrom(machine: string, address: string, seconds?: number): Promise<string>;
  /** `cri-ts net trace` over both nodes; the exit code tells whether it arrives. */
  trace(...args: string[]): Promise<{ stdout: string; exitCode: number | undefined }>;
  /** Addresses of a pod, IPv4 first. */
  addresses(node: string, name: string): Promise<string[]>;
}

async function machines(): Promise<Machines> {
  const parent = await mkdtemp(join(tmpdir(), 'ct-hw-'));
  const directory = join(parent, basename(parent)); // the script makes it; its name marks the cgroups
  const env = { HARD_WAY_DIR: directory };
  const output = async (command: string, args: readonly string[]) =>
    (await execa(command, args, { env, all: true })).all;
  const inPod: Machines['inPod'] = (node, name, ...command) =>
    output(podTool, [node, 'exec', name, ...command]);
  const on: Machines['on'] = (machine, ...command) =>
    output('ip', ['netns', 'exec', `ct-${machine}`, ...command]);
  const page = (address: string) => `http://${/:.*:/.test(address) ? `[${address}]` : address}/cgi-bin/who`;
  const socket = (node: string) => join(directory, node, 'cri.sock');
  return {
    directory,
    hardWay: (...flags) => output(script, flags),
    inPod,
    on,
    who: (node, name, address, seconds = plenty) =>
      inPod(node, name, 'timeout', String(seconds), 'wget', '-qO-', page(address)),
    whoFrom: (machine, address, seconds = plenty) =>
      on(machine, 'busybox', 'timeout', String(seconds), 'busybox', 'wget', '-qO-', page(address)),
    async trace(...args) {
      const flags = ['--address', socket('node-0'), '--peer', socket('node-1')];
      const { stdout, exitCode } = await execa(criTs, ['net', 'trace', ...args, ...flags], { reject: false });
      return { stdout, exitCode };
    },
    async addresses(node, name) {
      const list = await output(podTool, [node, 'list']);
      const line = list.split('\n').find(candidate => candidate.startsWith(name)) ?? '';
      return line.split(/\s+/).filter(word => word.startsWith('10.') || word.startsWith('fd00:'));
    },
  };
}

async function removed({ directory }: Machines): Promise<void> {
  expect(existsSync(directory)).toBe(false);
  await rm(join(directory, '..'), { recursive: true });
}

/** Asks until that pod answers, in turn with others; resolves to the address that it saw. */
async function untilWho(ask: () => Promise<string>, pod: string): Promise<string> {
  for (let tries = 0; tries < 4; tries++) {
    const [, name, seen = ''] = /^this is (\S+), and you are (\S+)$/.exec(await ask()) ?? [];
    if (name === pod) return seen;
  }
  throw new Error(`${pod} does not answer`);
}

const outside = '192.0.2.1';
const outside6 = '2001:db8::1';
const clusterIp = '10.32.0.10';

it(
  'the walk passes, and leaves nothing',
  async () => {
    const m = await machines();
    const before = hostSnapshot(basename(m.directory));
    expect(await m.hardWay('--quiet')).toContain('Every step was as expected');
    expect(hostSnapshot(basename(m.directory))).toEqual(before);
    await removed(m);
  },
  patience,
);

it(
  'a run that is interrupted takes down what it made',
  async () => {
    const m = await machines();
    const before = hostSnapshot(basename(m.directory));
    const run = execa(script, ['--quiet'], {
      env: { HARD_WAY_DIR: m.directory },
      detached: true,
      all: true,
      reject: false,
    });
    const isMakingPods = () => existsSync(join(m.directory, 'node-0', 'logs', 'web-a'));
    while (!isMakingPods() && run.exitCode === null) await sleep(50);
    if (run.pid === undefined) throw new Error('the script did not start');
    process.kill(-run.pid, 'SIGINT'); // to its whole group, as Ctrl-C is
    const { all, exitCode } = await run;
    expect({ all, exitCode }).toEqual({ all: expect.stringContaining('taking down'), exitCode: 130 });
    expect(hostSnapshot(basename(m.directory))).toEqual(before);
    await removed(m);
  },
  patience,
);

// Machines of the other forms, one made without the walk and one left up after it, and on them each assertion by itself.
describe.each([
  { kind: 'routes, with two address families', flags: ['--dual-stack', '--up'], seenAcross: '10.240.0.80' },
  { kind: 'an overlay', flags: ['--overlay', '--keep'], seenAcross: '10.200.0.0' },
])('two nodes joined by $kind', ({ flags, seenAcross }) => {
  const dual = flags.includes('--dual-stack');
  const isOverlay = flags.includes('--overlay');
  let m: Machines;
  let before: HostSnapshot;
  let [a, b, c]: string[][] = [];
  beforeAll(async () => {
    m = await machines();
    before = hostSnapshot(basename(m.directory));
    expect(await m.hardWay('--quiet', ...flags)).toContain('Left up');
    [a, b, c] = [
      await m.addresses('node-0', 'web-a'),
      await m.addresses('node-0', 'web-b'),
      await m.addresses('node-1', 'web-c'),
    ];
  }, patience);
  afterAll(async () => {
    expect(await m.hardWay('--down', '--quiet')).toContain('Nothing is left');
    expect(hostSnapshot(basename(m.directory))).toEqual(before);
    await removed(m);
  }, patience);
  const ip = (pod: string[] | undefined, family: 4 | 6 = 4) =>
    pod?.find(address => address.includes(':') === (family === 6)) ?? 'none';

  it('are not made a second time, nor taken down by the attempt', async () => {
    await expect(m.hardWay('--quiet')).rejects.toThrow('hack/hard-way.sh --down removes it');
    expect(await m.on('server', 'ip', 'addr')).toContain('10.240.0.79/24');
  });

  it('give their pods addresses of their own subnets', () => {
    expect(ip(a)).toMatch(/^10\.200\.0\./);
    expect(ip(c)).toMatch(/^10\.200\.1\./);
    expect([a, b, c].map(pod => pod?.length)).toEqual(dual ? [2, 2, 2] : [1, 1, 1]);
  });

  it("show each pod's cable on the bridge, with the name of the pod's namespace", async () => {
    const links = await m.on('node-0', 'ip', 'link', 'show', 'master', 'cni0');
    expect(links.match(/link-netns cni-/g)).toHaveLength(2);
    expect(await m.on('node-0', 'ip', 'addr', 'show', 'type', 'bridge')).toContain('10.200.0.1/24');
  });

  it('leave room in the pods’ frames for what the link between them takes', async () => {
    expect(await m.inPod('node-0', 'web-a', 'ip', 'link', 'show', 'eth0')).toContain(
      `mtu ${isOverlay ? 1450 : 1500}`,
    );
  });

  it('let pods of one node reach each other as themselves', async () => {
    expect(await m.who('node-0', 'web-a', ip(b))).toBe(`this is web-b, and you are ${ip(a)}`);
    const { stdout, exitCode } = await m.trace('web-a', 'web-b');
    expect(exitCode).toBe(0);
    expect(stdout).toContain('bridge cni0 sends the frame');
    expect(stdout).toContain(`delivered to pod web-b as ${ip(a)} -> ${ip(b)}`);
  });

  it('let pods reach pods of the other node, both ways', async () => {
    expect(await m.who('node-0', 'web-a', ip(c))).toBe(`this is web-c, and you are ${seenAcross}`);
    expect(await m.who('node-1', 'web-c', ip(a))).toContain('this is web-a');
    const { stdout, exitCode } = await m.trace('web-a', 'web-c');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`delivered to pod web-c as ${seenAcross} -> ${ip(c)}`);
    expect(stdout.includes('VXLAN 1, to 10.240.0.81')).toBe(isOverlay);
  });

  it('let pods reach the outside, which sees their node', async () => {
    expect(await m.who('node-0', 'web-a', outside)).toBe('this is outside, and you are 10.240.0.80');
    expect(await m.who('node-1', 'web-c', outside)).toBe('this is outside, and you are 10.240.0.81');
    const { stdout } = await m.trace('web-a', outside);
    expect(stdout).toContain(`leaves to 10.240.0.1 by eth0 as 10.240.0.80 -> ${outside}`);
  });

  const doAllWithIPv6 = async () => {
    expect(await m.who('node-0', 'web-a', ip(b, 6))).toBe(`this is web-b, and you are ${ip(a, 6)}`);
    expect(await m.who('node-0', 'web-a', ip(c, 6))).toBe('this is web-c, and you are fd00:240::80');
    expect(await m.who('node-0', 'web-a', outside6)).toBe('this is outside, and you are fd00:240::80');
    const { stdout, exitCode } = await m.trace('web-a', ip(c, 6));
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`delivered to pod web-c as fd00:240::80 -> ${ip(c, 6)}`);
  };
  if (dual) it('do all of this with IPv6 too', doAllWithIPv6);

  it('let the server reach pods only where it has a way to them', async () => {
    if (isOverlay) await expect(m.whoFrom('server', ip(c), few)).rejects.toThrow();
    else expect(await m.whoFrom('server', ip(c))).toBe('this is web-c, and you are 10.240.0.79');
  });

  it('serve a ClusterIP and a NodePort from pods of both nodes, while the rules are there', async () => {
    for (const number of [0, 1]) {
      const endpoints = [`${ip(b)}:80`, `${ip(c)}:80`];
      await m.on(
        `node-${number}`,
        services,
        'apply',
        `10.200.${number}.0/24`,
        clusterIp,
        '80',
        '30080',
        ...endpoints,
      );
    }
    const answers = [await m.who('node-0', 'web-a', clusterIp), await m.who('node-0', 'web-a', clusterIp)];
    expect(answers.map(answer => answer.split(',')[0]).sort()).toEqual(['this is web-b', 'this is web-c']);
    for (const node of ['10.240.0.80', '10.240.0.81']) {
      const asked = [await m.whoFrom('server', `${node}:30080`), await m.whoFrom('server', `${node}:30080`)];
      const seen = asked.map(answer => answer.split(',')[0]);
      expect(seen.sort()).toEqual(['this is web-b', 'this is web-c']);
    }
    const { stdout, exitCode } = await m.trace('web-a', clusterIp, '--port', '80');
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`the destination becomes ${ip(b)} port 80 (DNAT)`);
    // A NodePort of the node that the first endpoint is not on: there and back through both nodes.
    const first = await untilWho(() => m.whoFrom('server', '10.240.0.81:30080'), 'web-b');
    const far = await m.trace('10.240.0.79', '10.240.0.81', '--port', '30080');
    expect(far.stdout).toContain(`delivered to pod web-b as ${first} -> ${ip(b)}:80`);
    for (const number of [0, 1]) await m.on(`node-${number}`, services, 'remove');
    await expect(m.who('node-0', 'web-a', clusterIp, few)).rejects.toThrow();
  });

  it('lose the way when a route is missing, and say where', async () => {
    const [removal, restore] = isOverlay
      ? [
          ['ip', 'route', 'del', '10.200.1.0/24'],
          ['ip', 'route', 'add', '10.200.1.0/24', 'via', '10.200.1.0', 'dev', 'flannel.1', 'onlink'],
        ]
      : [
          ['ip', 'route', 'del', '10.200.1.0/24'],
          ['ip', 'route', 'add', '10.200.1.0/24', 'via', '10.240.0.81'],
        ];
    await m.on('node-0', ...removal);
    await expect(m.who('node-0', 'web-a', ip(c), few)).rejects.toThrow();
    expect((await m.trace('web-a', 'web-c')).stdout).toContain('leaves to 10.240.0.1 by eth0');
    await m.on('node-0', ...restore);
    expect(await m.who('node-0', 'web-a', ip(c))).toContain('this is web-c');
  });

  it('lose the way when a node does not forward, and say where', async () => {
    await m.on('node-1', 'busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=0');
    await expect(m.who('node-0', 'web-a', ip(c), few)).rejects.toThrow();
    await expect(m.who('node-1', 'web-c', outside, few)).rejects.toThrow();
    const { stdout, exitCode } = await m.trace('web-a', 'web-c');
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/DROPPED: ends at node ct-node-1: .*net\.ipv4\.ip_forward = 0/);
    await m.on('node-1', 'busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=1');
    expect(await m.who('node-0', 'web-a', ip(c))).toContain('this is web-c');
  });

  const loseTheOtherNode = async () => {
    const entries = await m.on('node-0', 'bridge', 'fdb', 'show', 'dev', 'flannel.1');
    const [, mac = ''] = /^(\S+) .*dst 10\.240\.0\.81/m.exec(entries) ?? [];
    await m.on('node-0', 'bridge', 'fdb', 'del', mac, 'dev', 'flannel.1', 'dst', '10.240.0.81');
    await expect(m.who('node-0', 'web-a', ip(c), few)).rejects.toThrow();
    const { stdout, exitCode } = await m.trace('web-a', 'web-c');
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`no forwarding entry of flannel.1 says which node has ${mac}`);
    await m.on('node-0', 'bridge', 'fdb', 'append', mac, 'dev', 'flannel.1', 'dst', '10.240.0.81');
    expect(await m.who('node-0', 'web-a', ip(c))).toContain('this is web-c');
  };
  if (isOverlay) it('lose the way when the overlay does not know where the other node is', loseTheOtherNode);
});
