// Nodes made up for tests of pictures and rules: what readNode would give.
import type { Link } from '../../../src/host/net-tables.ts';
import { parseIptables } from '../../../src/net/firewall/iptables.ts';
import type { NodeNetwork, PodNetwork } from '../../../src/net/node.ts';

const link = (name: string, over: Partial<Link>): Link => ({
  index: 1,
  name,
  kind: '',
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  up: true,
  master: undefined,
  linkIndex: undefined,
  addresses: [],
  vxlan: undefined,
  ...over,
});

function pod(number: number, name: string): PodNetwork {
  const address = `10.200.0.${number + 2}`;
  const cable = `veth${(0x1a2b3c4d + number * 7919).toString(16)}`;
  return {
    id: number.toString(16).padStart(64, '0'),
    name,
    namespace: 'default',
    ready: true,
    netns: `/var/run/netns/cni-0000${number}`,
    problem: undefined,
    ips: [address],
    interfaces: [
      {
        name: 'lo',
        kind: 'loopback',
        mac: '',
        mtu: 65536,
        up: true,
        addresses: ['127.0.0.1/8'],
        host: undefined,
        over: undefined,
      },
      {
        name: 'eth0',
        kind: 'veth',
        mac: '02:00:00:00:01:00',
        mtu: 1500,
        up: true,
        addresses: [`${address}/24`],
        host: { name: cable, mac: '02:00:00:00:02:00', bridge: 'cni0' },
        over: undefined,
      },
    ],
    routes: ['default via 10.200.0.1 dev eth0'],
    attachments: [
      {
        network: 'bridge',
        ifName: 'eth0',
        file: '/etc/cni/net.d/10-bridge.conf',
        plugins: [{ plugin: 'bridge', ms: 20 }],
        result: {},
      },
    ],
    rules: { masquerade: ['-t nat -A CNI-0 -j MASQUERADE'], portMapping: [], other: [] },
  };
}

export function nodeWith(
  pods: number,
  nameOf: (number: number) => string = number => `web-${number}`,
): NodeNetwork {
  const empty = parseIptables('');
  return {
    name: 'node-0',
    socket: '/run/cri-ts/cri-ts.sock',
    netns: '/proc/1/ns/net',
    pods: Array.from({ length: pods }, (_, i) => pod(i, nameOf(i))),
    tables: {
      links: [
        link('lo', { addresses: ['127.0.0.1/8'] }),
        link('eth0', { addresses: ['10.240.0.80/24'] }),
        link('cni0', { kind: 'bridge', addresses: ['10.200.0.1/24'] }),
      ],
      routes: [{ dst: '10.200.0.0/24', dev: 'cni0', flags: [] }],
      forwarding: { ipv4: true, ipv6: false },
      neighbours: [],
      fdb: [],
      iptables: '',
      ip6tables: '',
      nft: [],
    },
    iptables: { ipv4: empty, ipv6: empty },
    nft: { chains: [], rules: [], sets: [] },
  };
}

/** A node with what makes a picture hard: long names, long addresses, many devices, an empty bridge, pods that are not well. */
export function crowdedNode(pods: number): NodeNetwork {
  const names = [
    'coredns-7d4b9c6f5d-x2x4z',
    'web',
    'a-very-long-name-of-a-deployment-7d4b9c6f5d-x2x4z',
    'W'.repeat(40),
  ];
  const node = nodeWith(pods, number => names[number % names.length] ?? '');
  for (const [i, one] of node.pods.entries()) {
    if (i % 3 === 1) one.namespace = 'a-namespace-with-a-long-name-too';
    if (i % 3 === 2) one.interfaces[1]?.addresses.push('fd00:1234:5678:9abc:1:2:3:4/64');
    if (i % 4 === 3)
      one.rules.portMapping = ['-A X -p tcp --dport 8080 -j DNAT --to-destination 10.200.0.5:80'];
    if (i === 4) Object.assign(one, { ready: false, interfaces: [] });
    if (i === 5) Object.assign(one, { netns: null, interfaces: [] });
  }
  const vxlan = { id: 1, local: '10.240.0.80', link: 'eth0', port: 8472 };
  node.tables.links.push(
    link('flannel.1', { kind: 'vxlan', addresses: ['10.200.0.0/32', 'fd00:200::/128'], vxlan }),
    ...[1, 2, 3, 4].map(number =>
      link(`enp0s31f6np${number}`, {
        addresses: [`192.168.${number}.10/24`, `fd00:1234:5678:9abc:1:2:3:${number}/64`],
      }),
    ),
    link('docker0', { kind: 'bridge', addresses: ['172.17.0.1/16'], up: false }),
  );
  node.tables.routes.push(
    ...Array.from({ length: 20 }, (_, i) => ({
      dst: `fd00:1234:5678:9abc:${i}::/80`,
      gateway: 'fd00:1234:5678:9abc:1:2:3:4',
      dev: 'enp0s31f6np4',
      flags: [],
    })),
  );
  return node;
}
