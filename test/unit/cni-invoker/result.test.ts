import { describe, expect, it } from 'vitest';
import {
  CniError,
  containerAddresses,
  decodeResult,
  encodeResult,
  type Result,
  type SpecVersion,
  specVersions,
} from '../../../src/cni-invoker/index.ts';
import { parseResult } from '../../../src/cni-invoker/result.ts';

const full: Result = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'cni0', mac: '00:11:22:33:44:55', mtu: 1500 },
    {
      name: 'eth0',
      mac: '99:88:77:66:55:44',
      mtu: 1400,
      sandbox: '/run/netns/blue',
      socketPath: '/s',
      pciID: '0:1',
    },
  ],
  ips: [
    { address: '10.1.0.5/16', gateway: '10.1.0.1', interface: 1 },
    { address: 'fd00::5/64', gateway: 'fd00::1', interface: 1 },
    { address: '10.1.0.6/16', interface: 1 },
  ],
  routes: [
    { dst: '0.0.0.0/0', gw: '10.1.0.1', mtu: 1400, advmss: 1360, priority: 10, table: 100, scope: 0 },
    { dst: '::/0', gw: 'fd00::1' },
  ],
  dns: { nameservers: ['10.1.0.1'], domain: 'x.y', search: ['x.y'], options: ['ndots:5'] },
};

const interfaces040 = [
  { name: 'cni0', mac: '00:11:22:33:44:55' },
  { name: 'eth0', mac: '99:88:77:66:55:44', sandbox: '/run/netns/blue' },
];

const encoded: Record<SpecVersion, object> = {
  ...(Object.fromEntries(
    ['0.1.0', '0.2.0'].map(cniVersion => [
      cniVersion,
      {
        cniVersion,
        ip4: { ip: '10.1.0.5/16', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] },
        ip6: { ip: 'fd00::5/64', gateway: 'fd00::1', routes: [{ dst: '::/0', gw: 'fd00::1' }] },
        dns: full.dns,
      },
    ]),
  ) as Record<'0.1.0' | '0.2.0', object>),
  ...(Object.fromEntries(
    ['0.3.0', '0.3.1', '0.4.0'].map(cniVersion => [
      cniVersion,
      {
        cniVersion,
        interfaces: interfaces040,
        ips: [
          { version: '4', ...full.ips[0] },
          { version: '6', ...full.ips[1] },
          { version: '4', ...full.ips[2] },
        ],
        routes: full.routes,
        dns: full.dns,
      },
    ]),
  ) as Record<'0.3.0' | '0.3.1' | '0.4.0', object>),
  '1.0.0': { ...full, cniVersion: '1.0.0' },
  '1.1.0': full,
};

describe('encodeResult', () => {
  it.each(specVersions)('writes a result in the form of %s', version => {
    expect(encodeResult(full, version)).toEqual(encoded[version]);
  });

  it('writes only the parts that there are', () => {
    const empty: Result = { cniVersion: '1.1.0', interfaces: [], ips: [], routes: [], dns: {} };
    for (const version of specVersions) expect(encodeResult(empty, version)).toEqual({ cniVersion: version });
  });
});

describe('decodeResult', () => {
  const pairs = specVersions.flatMap(from => specVersions.map(to => [from, to] as const));

  it.each(pairs)('converts a result of %s to %s without losing what both can say', (from, to) => {
    const viaFrom = decodeResult(encoded[from]);
    const weaker = specVersions.indexOf(from) < specVersions.indexOf(to) ? from : to;
    // Written in the weaker of both versions, the converted and the original result say the same.
    const there = encodeResult(decodeResult(encodeResult(viaFrom, to)), weaker);
    expect(there).toEqual(encoded[weaker]);
  });

  it('reads the addresses and routes of 0.2.0', () => {
    expect(decodeResult(encoded['0.2.0'])).toEqual({
      cniVersion: '1.1.0',
      interfaces: [],
      ips: [
        { address: '10.1.0.5/16', gateway: '10.1.0.1' },
        { address: 'fd00::5/64', gateway: 'fd00::1' },
      ],
      routes: [
        { dst: '0.0.0.0/0', gw: '10.1.0.1' },
        { dst: '::/0', gw: 'fd00::1' },
      ],
      dns: full.dns,
    });
  });

  it('reads the fields of 1.0.0 under the version 0.2.0, as loopback of the reference plugins 1.1.1 prints them', () => {
    const result = decodeResult({
      cniVersion: '0.2.0',
      interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: '/run/netns/blue' }],
      ips: [{ interface: 0, address: '127.0.0.1/8' }],
      dns: {},
    });
    expect(result.ips).toEqual([{ address: '127.0.0.1/8', interface: 0 }]);
    expect(result.interfaces).toHaveLength(1);
  });

  it('takes null and empty words for absent values', () => {
    const value = {
      interfaces: null,
      ips: [{ address: '10.0.0.2/24', gateway: '' }],
      routes: [{ dst: '0.0.0.0/0', gw: null }],
      dns: null,
      ip4: null,
    };
    expect(decodeResult(value)).toEqual({
      cniVersion: '1.1.0',
      interfaces: [],
      ips: [{ address: '10.0.0.2/24' }],
      routes: [{ dst: '0.0.0.0/0' }],
      dns: {},
    });
  });

  it.each([
    ['an address without prefix length', { ips: [{ address: '10.0.0.2' }] }, 'ips.0.address'],
    ['an address that is none', { ip4: { ip: 'ten/8' } }, 'ip4.ip'],
    ['a prefix beyond the family', { ips: [{ address: '10.0.0.2/33' }] }, 'ips.0.address'],
    ['a gateway that is none', { ips: [{ address: '10.0.0.2/8', gateway: 'gw' }] }, 'ips.0.gateway'],
    [
      'an interface that is not there',
      { ips: [{ address: '10.0.0.2/8', interface: 1 }] },
      'not in `interfaces`',
    ],
    ['an unknown version', { cniVersion: '7.0.0' }, '7.0.0'],
    ['an error in place of a result', { cniVersion: '1.0.0', code: 7, msg: 'no' }, 'is an error'],
    ['a list', [], 'an array'],
    ['null', null, 'null'],
  ])('refuses %s', (_what, value, words) => {
    const refusal = (): Result => decodeResult(value);
    expect(refusal).toThrow(words);
    expect(refusal).toThrow(CniError);
  });
});

describe('parseResult', () => {
  it.each([
    ['nothing', ' \n', 'is empty'],
    ['garbage', 'panic: oops', 'panic: oops'],
  ])('refuses %s', (_what, stdout, words) => {
    expect(() => parseResult(stdout)).toThrow(words);
  });
});

describe('containerAddresses', () => {
  it('gives the addresses inside the container, in order, without loopback and without those of the host', () => {
    const onHost: Result = { ...full, ips: [{ address: '10.1.0.1/16', interface: 0 }, ...full.ips] };
    const loopback: Result = { ...full, interfaces: [], ips: [{ address: '127.0.0.1/8' }] };
    const legacy = decodeResult(encoded['0.2.0']);
    expect(
      containerAddresses([
        { ifName: 'lo', result: loopback },
        { ifName: 'eth0', result: onHost },
        { ifName: 'eth1', result: legacy },
      ]),
    ).toEqual(['10.1.0.5', 'fd00::5', '10.1.0.6', '10.1.0.5', 'fd00::5']);
  });
});
