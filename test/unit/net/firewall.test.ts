// Rules as the tools print them, and what they do with a packet. The texts are those of CNI plugins and of kube-proxy's kind.
import { describe, expect, it } from 'vitest';
import { parseIptables, walkIptables } from '../../../src/net/firewall/iptables.ts';
import { parseNft, walkNft } from '../../../src/net/firewall/nft.ts';
import { inPrefix, type Packet, splitEndpoint } from '../../../src/net/firewall/packet.ts';

const packet = (over: Partial<Packet> = {}): Packet => ({
  src: '10.200.0.2',
  dst: '192.0.2.1',
  protocol: 'any',
  dport: undefined,
  iif: 'cni0',
  oif: 'eth0',
  mark: 0,
  dnat: false,
  ...over,
});
const isLocal = (address: string) => address === '10.240.0.80';

describe('iptables rules', () => {
  const tables = parseIptables(`# made by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-aa - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:CNI-DN-bb - [0:0]
:KUBE-SVC-x - [0:0]
:KUBE-SEP-1 - [0:0]
:KUBE-SEP-2 - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -s 10.200.0.2/32 -m comment --comment "name: \\"bridge\\" id: \\"77\\"" -j CNI-aa
-A CNI-aa -d 10.200.0.0/24 -m comment --comment "name: \\"bridge\\" id: \\"77\\"" -j ACCEPT
-A CNI-aa ! -d 224.0.0.0/4 -m comment --comment "name: \\"bridge\\" id: \\"77\\"" -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"bridge\\" id: \\"77\\"" -m multiport --dports 8080,9000:9010 -j CNI-DN-bb
-A CNI-DN-bb -s 10.200.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-bb -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.200.0.2:80
-A PREROUTING -d 10.32.0.20/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-x
-A KUBE-SVC-x -m comment --comment "shop/web -> 10.200.0.2:80" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-1
-A KUBE-SVC-x -m comment --comment "shop/web -> 10.200.1.2:80" -j KUBE-SEP-2
-A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 10.200.0.2:80
-A KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination 10.200.1.2:80
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i cni+ -o eth0 -j ACCEPT
-A FORWARD -m recent --name x --rcheck -d 198.51.100.0/24 -j ACCEPT
COMMIT
`);
  const nat = (chain: string, over: Partial<Packet>) =>
    walkIptables(tables, 'nat', chain, packet(over), isLocal);
  const forward = (over: Partial<Packet>) => walkIptables(tables, 'filter', 'FORWARD', packet(over), isLocal);

  it('masquerade what leaves the subnet', () => {
    expect(nat('POSTROUTING', {}).snat).toMatchObject({
      address: 'outgoing device',
      because: expect.stringContaining('! -d 224.0.0.0/4'),
    });
  });

  it.each([
    ['stays in the subnet', { dst: '10.200.0.3' }],
    ['is multicast', { dst: '224.0.0.251' }],
    ['is of another pod', { src: '10.200.0.9' }],
  ])('do not masquerade what %s', (_, over) => {
    expect(nat('POSTROUTING', over).snat).toBeUndefined();
  });

  it("translate a host port of the node's own addresses alone", () => {
    const tcp = { src: '10.240.0.79', dst: '10.240.0.80', protocol: 'tcp', dport: 8080 } as const;
    expect(nat('PREROUTING', tcp).dnat).toMatchObject({ address: '10.200.0.2', port: 80 });
    expect(nat('PREROUTING', { ...tcp, dport: 8081 }).dnat).toBeUndefined();
    expect(nat('PREROUTING', { ...tcp, protocol: 'udp' }).dnat).toBeUndefined();
    expect(nat('PREROUTING', { ...tcp, dst: '10.240.0.81' }).dnat).toBeUndefined();
  });

  it('that draw an endpoint at random are followed to the first, which is said', () => {
    const verdict = nat('PREROUTING', { dst: '10.32.0.20', protocol: 'tcp', dport: 80 });
    expect(verdict.dnat).toMatchObject({ address: '10.200.0.2', port: 80 });
    expect(verdict.remarks).toEqual(['KUBE-SEP-1 is drawn at random (50 in 100): this follows it']);
    expect(verdict.notUnderstood).toEqual([]);
  });

  it('mark a packet and go on', () => {
    const own = { dst: '10.240.0.80', protocol: 'tcp', dport: 8080 } as const;
    expect(nat('PREROUTING', own)).toMatchObject({ mark: 0x2000, dnat: { address: '10.200.0.2' } });
  });

  it('drop by the policy of a chain when no rule takes the packet', () => {
    expect(forward({}).drop).toBeUndefined();
    expect(forward({ oif: 'eth1' }).drop).toEqual({ because: '-P FORWARD DROP (table filter)' });
  });

  it('that have a match beyond understanding are named and passed over', () => {
    const verdict = forward({ dst: '198.51.100.1', oif: 'eth1' });
    expect(verdict.notUnderstood).toEqual([expect.stringContaining('-m recent')]);
    expect(verdict.drop).toBeDefined();
  });
});

describe('nftables rules', () => {
  const chain = (name: string, base: object = {}) => ({
    chain: { family: 'ip', table: 'services', name, ...base },
  });
  const rule = (name: string, ...expr: object[]) => ({
    rule: { family: 'ip', table: 'services', chain: name, expr },
  });
  const match = (left: object, right: unknown, op = '==') => ({ match: { op, left, right } });
  const daddr = { payload: { protocol: 'ip', field: 'daddr' } };
  const saddr = { payload: { protocol: 'ip', field: 'saddr' } };
  const dport = { payload: { protocol: 'tcp', field: 'dport' } };
  const type = { fib: { result: 'type', flags: ['daddr'] } };
  const choice = { numgen: { mode: 'inc', mod: 2, offset: 0 } };
  const endpoints = {
    set: [
      [0, { goto: { target: 'first' } }],
      [1, { goto: { target: 'second' } }],
    ],
  };
  const members = [
    { metainfo: { version: '1.0.6' } },
    chain('pre', { type: 'nat', hook: 'prerouting', prio: -100, policy: 'accept' }),
    chain('post', { type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' }),
    chain('forward', { type: 'filter', hook: 'forward', prio: 0, policy: 'drop' }),
    chain('web'),
    chain('first'),
    chain('second'),
    {
      set: {
        family: 'ip',
        table: 'services',
        name: 'pods',
        elem: [{ prefix: { addr: '10.200.0.0', len: 24 } }],
      },
    },
    rule(
      'pre',
      match(daddr, '10.32.0.10'),
      match(dport, 80),
      { counter: { packets: 1 } },
      { goto: { target: 'web' } },
    ),
    rule(
      'pre',
      match(type, 'local'),
      match(dport, 30080),
      { mangle: { key: { meta: { key: 'mark' } }, value: 0x4000 } },
      { goto: { target: 'web' } },
    ),
    rule('web', { vmap: { key: choice, data: endpoints } }),
    rule('first', { dnat: { addr: '10.200.0.3', port: 80 } }),
    rule('second', { dnat: { addr: '10.200.1.2', port: 80 } }),
    rule('post', match({ meta: { key: 'mark' } }, 0x4000), { masquerade: null }),
    rule(
      'post',
      match({ ct: { key: 'status' } }, 'dnat', 'in'),
      match(saddr, '@pods'),
      match(daddr, '@pods'),
      { masquerade: null },
    ),
    rule('forward', match({ meta: { key: 'iifname' } }, { set: ['cni0', 'cni1'] }), { accept: null }),
    rule('forward', match({ osf: { key: 'name' } }, 'Linux'), { accept: null }),
    { rule: { family: 'ip', table: 'nat', chain: 'POSTROUTING', expr: [{ masquerade: null }] } },
  ];
  const nft = parseNft(members, (family, table) => family === 'ip' && table === 'nat');
  const tcp = { protocol: 'tcp', dport: 80 } as const;

  it("lead a service's address to the first endpoint, and tell of the others", () => {
    const verdict = walkNft(nft, 'nat', 'prerouting', packet({ dst: '10.32.0.10', ...tcp }), isLocal);
    expect(verdict.dnat).toMatchObject({ address: '10.200.0.3', port: 80 });
    expect(verdict.remarks).toEqual([
      expect.stringContaining('one of 2 is chosen for each connection, in turn (first, second)'),
    ]);
  });

  it('leave another port and another address alone', () => {
    expect(
      walkNft(nft, 'nat', 'prerouting', packet({ dst: '10.32.0.10', ...tcp, dport: 81 }), isLocal).dnat,
    ).toBeUndefined();
    expect(
      walkNft(nft, 'nat', 'prerouting', packet({ dst: '10.32.0.11', ...tcp }), isLocal).dnat,
    ).toBeUndefined();
  });

  it('mark what came to a node port, and masquerade what is marked', () => {
    const arrived = walkNft(
      nft,
      'nat',
      'prerouting',
      packet({ dst: '10.240.0.80', protocol: 'tcp', dport: 30080 }),
      isLocal,
    );
    expect(arrived).toMatchObject({ mark: 0x4000, dnat: { address: '10.200.0.3' } });
    expect(walkNft(nft, 'nat', 'postrouting', packet({ mark: 0x4000 }), isLocal).snat).toBeDefined();
    expect(walkNft(nft, 'nat', 'postrouting', packet(), isLocal).snat).toBeUndefined();
  });

  it('look into named sets', () => {
    const inside = packet({ dst: '10.200.0.3', dnat: true });
    expect(walkNft(nft, 'nat', 'postrouting', inside, isLocal).snat).toBeDefined();
    expect(
      walkNft(nft, 'nat', 'postrouting', { ...inside, dst: '10.200.1.3' }, isLocal).snat,
    ).toBeUndefined();
    expect(walkNft(nft, 'nat', 'postrouting', { ...inside, dnat: false }, isLocal).snat).toBeUndefined();
  });

  it('drop by policy, and name what is beyond understanding', () => {
    expect(walkNft(nft, 'filter', 'forward', packet({ iif: 'cni1' }), isLocal).drop).toBeUndefined();
    const verdict = walkNft(nft, 'filter', 'forward', packet({ iif: 'eth9' }), isLocal);
    expect(verdict.drop).toEqual({ because: 'ip services forward: policy drop' });
    expect(verdict.notUnderstood).toHaveLength(1);
  });

  it("leave iptables' own tables to iptables", () => {
    expect(nft.rules.some(({ table }) => table === 'nat')).toBe(false);
  });

  it('never match by a field that the packet has not got, not even by its difference', () => {
    const other = parseNft(
      [
        chain('in', { type: 'filter', hook: 'forward', prio: 0, policy: 'accept' }),
        rule('in', match(dport, 80, '!='), { drop: null }),
        rule('in', match({ payload: { protocol: 'ip6', field: 'daddr' } }, 'fd00::1', '!='), { drop: null }),
      ],
      () => false,
    );
    const dropped = (over: Partial<Packet>) =>
      walkNft(other, 'filter', 'forward', packet(over), isLocal).drop;
    expect(dropped({})).toBeUndefined();
    expect(dropped({ protocol: 'udp', dport: 53 })).toBeUndefined();
    expect(dropped({ ...tcp, dport: 81 })).toBeDefined();
  });

  it('of IPv4 do not see packets of IPv6', () => {
    expect(
      walkNft(nft, 'nat', 'prerouting', packet({ dst: 'fd00::1', src: 'fd00::2', ...tcp }), isLocal).dnat,
    ).toBeUndefined();
  });
});

describe('addresses', () => {
  it.each([
    ['10.200.0.7', '10.200.0.0/24', true],
    ['10.200.1.7', '10.200.0.0/24', false],
    ['10.200.0.7', '10.200.0.7', true],
    ['fd00:200::5', 'fd00:200::/64', true],
    ['fd00:200:0:1::5', 'fd00:200::/64', false],
    ['10.200.0.7', '::/0', false],
    ['10.200.0.7', '0.0.0.0/0', true],
  ])('%s in %s: %s', (address, prefix, expected) => {
    expect(inPrefix(address, prefix)).toBe(expected);
  });

  it.each([
    ['10.0.0.1:80', '10.0.0.1', 80],
    ['10.0.0.1', '10.0.0.1', undefined],
    ['[fd00::1]:80', 'fd00::1', 80],
    ['fd00::1', 'fd00::1', undefined],
  ])('%s is split into address and port', (text, address, port) => {
    expect(splitEndpoint(text)).toEqual({ address, port });
  });
});
