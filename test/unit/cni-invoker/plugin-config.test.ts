import { describe, expect, it } from 'vitest';
import { parsePluginFile } from '../../../src/cni-invoker/network-config.ts';
import { checkRuntimeConf, parameters, requestConfig } from '../../../src/cni-invoker/plugin-config.ts';

const plugin = (conf: object) => parsePluginFile(JSON.stringify({ type: 'x', ...conf }));
const request = { name: 'net', cniVersion: '1.0.0' as const };

describe('requestConfig', () => {
  it('passes the keys of the file unaltered and sets name and version', () => {
    const raw = {
      type: 'x',
      keyA: ['some', 1, null],
      ipam: { type: 'host-local' },
      name: 'own',
      cniVersion: '0.1.0',
    };
    expect(requestConfig(plugin(raw), request)).toEqual({ ...raw, name: 'net', cniVersion: '1.0.0' });
  });

  it('inserts the capability arguments that the plugin declares as true, whatever the capability', () => {
    const capabilityArgs = {
      portMappings: [{ hostPort: 80 }],
      bandwidth: { ingressRate: 1 },
      dns: { servers: ['1.1.1.1'] },
      ipRanges: [[{ subnet: '10.0.0.0/8' }]],
      ips: ['10.0.0.1'],
      mac: 'c2:11:22:33:44:55',
      aliases: ['a'],
      cgroupPath: '/x',
      infinibandGUID: 'g',
      deviceID: 'd',
      'io.kubernetes.cri.pod-annotations': { a: 'b' },
    };
    const all = Object.fromEntries(Object.keys(capabilityArgs).map(key => [key, true]));
    expect(requestConfig(plugin({ capabilities: all }), { ...request, capabilityArgs })).toEqual({
      type: 'x',
      name: 'net',
      cniVersion: '1.0.0',
      runtimeConfig: capabilityArgs,
    });
    const some = requestConfig(plugin({ capabilities: { mac: true, ips: false, other: true } }), {
      ...request,
      capabilityArgs,
    });
    expect(some.runtimeConfig).toEqual({ mac: capabilityArgs.mac });
  });

  it('inserts no runtimeConfig when no argument matches', () => {
    const config = requestConfig(plugin({ capabilities: { mac: true } }), {
      ...request,
      capabilityArgs: { ips: [] },
    });
    expect(config).not.toHaveProperty('runtimeConfig');
  });

  it("drops the runtime's own keys from the file and sets prevResult only when there is one", () => {
    const conf = plugin({ capabilities: {}, prevResult: { forged: true }, 'cni.dev/x': 1 });
    expect(requestConfig(conf, request)).toEqual({ type: 'x', name: 'net', cniVersion: '1.0.0' });
    const prevResult = { cniVersion: '1.0.0' };
    expect(requestConfig(conf, { ...request, prevResult }).prevResult).toEqual(prevResult);
  });
});

describe('parameters', () => {
  it('writes all six variables', () => {
    const rt = {
      containerId: 'c',
      netns: '/n',
      ifName: 'eth0',
      args: [['A', '1'] as const, ['B', ''] as const],
    };
    expect(parameters('ADD', ['/a', '/b'], rt)).toEqual({
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'c',
      CNI_NETNS: '/n',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: 'A=1;B=',
      CNI_PATH: '/a:/b',
    });
  });
});

describe('checkRuntimeConf', () => {
  const good = { containerId: 'c.1_-', netns: '', ifName: 'eth0' };

  it('takes what the specification allows', () => {
    expect(() => checkRuntimeConf({ ...good, args: [['K8S_POD_NAME', 'a=b']] })).not.toThrow();
  });

  it.each([
    ['an empty container id', { containerId: '' }],
    ['a container id with a slash', { containerId: 'a/b' }],
    ['a container id that begins with a dot', { containerId: '..' }],
    ['an empty interface name', { ifName: '' }],
    ['an interface name that is too long', { ifName: 'x'.repeat(16) }],
    ['an interface name with a slash', { ifName: '../x' }],
    ['an interface name that is a dot', { ifName: '..' }],
    ['a NUL in the path', { netns: '/a\0' }],
    ['an argument whose value holds a semicolon', { args: [['A', 'x;B=y'] as const] }],
    ['an argument whose key holds an equals sign', { args: [['A=B', 'x'] as const] }],
    ['an argument without key', { args: [['', 'x'] as const] }],
  ])('refuses %s', (_what, change) => {
    expect(() => checkRuntimeConf({ ...good, ...change })).toThrow(/not valid|cannot be written|NUL/);
  });
});
