import { expect, test } from 'vitest';
import { deviceNumbers } from '../../../src/host/device-numbers.ts';
import { buildDevices, type DeviceRequest } from '../../../src/oci/spec/devices.ts';
import { hostLookups } from '../../../src/oci/spec/lookups.ts';
import type { Device } from '../../../src/oci/spec/types.ts';
import { lookups, securityContext } from './fixtures.ts';

const node = (path: string, minor: number): Device => ({
  type: 'c',
  path,
  major: 10,
  minor,
  fileMode: 0o660,
  uid: 0,
  gid: 6,
});

function build(over: Partial<DeviceRequest> = {}) {
  return buildDevices({
    subject: 'container "c" (1)',
    asked: [],
    securityContext: securityContext(),
    privilegedWithoutHostDevices: false,
    allDevicesAllowed: false,
    ownedByRunAs: false,
    lookups: lookups({
      realPath: async path => (path === '/dev/link' ? '/dev/fuse' : path === '/dev/none' ? undefined : path),
      devices: async path => {
        if (path === '/dev/fuse') return [node('/dev/fuse', 229)];
        if (path === '/dev/net') return [node('/dev/net/tun', 200), node('/dev/net/deep/tap', 201)];
        if (path === '/dev') return [node('/dev/fuse', 229), node('/dev/kvm', 232)];
        return undefined;
      },
    }),
    ...over,
  });
}

const device = (hostPath: string, containerPath = hostPath, permissions = 'rw') => ({
  hostPath,
  containerPath,
  permissions,
});
const deny = { allow: false, access: 'rwm' };

test('without devices everything is denied', async () => {
  expect(await build()).toEqual({ devices: [], rules: [deny] });
});

test('a device is made at its path in the container and allowed with its permissions', async () => {
  expect(await build({ asked: [device('/dev/link', '/dev/mine', 'mr')] })).toEqual({
    devices: [{ ...node('/dev/fuse', 229), path: '/dev/mine' }],
    rules: [deny, { allow: true, type: 'c', major: 10, minor: 229, access: 'mr' }],
  });
});

test('a directory stands for all devices below it', async () => {
  const { devices, rules } = await build({ asked: [device('/dev/net', '/dev/inside')] });
  expect(devices.map(({ path }) => path)).toEqual(['/dev/inside/tun', '/dev/inside/deep/tap']);
  expect(rules).toHaveLength(3);
});

test('a privileged container has all devices of the host, and all are allowed', async () => {
  const { devices, rules } = await build({
    securityContext: securityContext({ privileged: true }),
    asked: [device('/dev/link', '/dev/fuse')],
  });
  expect(devices.map(({ path }) => path)).toEqual(['/dev/fuse', '/dev/kvm']);
  expect(rules).toEqual([{ allow: true, access: 'rwm' }]);
});

test('a handler may keep the devices of the host from privileged containers', async () => {
  const privileged = {
    securityContext: securityContext({ privileged: true }),
    privilegedWithoutHostDevices: true,
  };
  expect(await build(privileged)).toEqual({ devices: [], rules: [deny] });
  expect(await build({ ...privileged, allDevicesAllowed: true })).toEqual({
    devices: [],
    rules: [{ allow: true, access: 'rwm' }],
  });
});

test('nodes can be made to belong to the user of the container', async () => {
  const { devices } = await build({
    asked: [device('/dev/fuse')],
    ownedByRunAs: true,
    securityContext: securityContext({ runAsUser: { value: '1000' } }),
  });
  expect(devices[0]).toMatchObject({ uid: 1000, gid: 6 });
});

test.each([
  [device('/dev/none'), 'does not exist on this host'],
  [device('/etc/hosts'), 'is not a device'],
  [device('/dev/fuse', 'fuse'), 'is not an absolute path'],
  [device('/dev/fuse', '/dev/fuse', 'rx'), 'other letters than'],
])('%j is refused', async (asked, message) => {
  await expect(build({ asked: [asked] })).rejects.toThrow(`devices["${asked.hostPath}"]`);
  await expect(build({ asked: [asked] })).rejects.toThrow(message);
});

test('device numbers beyond eight bits are split as the C library does', () => {
  expect(deviceNumbers(0x103n)).toEqual({ major: 1, minor: 3 });
  // makedev(0x12345, 0x6789ab)
  expect(deviceNumbers(0x12006789345abn)).toEqual({ major: 0x12345, minor: 0x6789ab });
});

test('the host is asked for its devices', async () => {
  const found = await hostLookups.devices('/dev/null');
  expect(found).toMatchObject([{ type: 'c', path: '/dev/null', major: 1, minor: 3 }]);
  expect(await hostLookups.devices('/etc/hosts')).toBeUndefined();
  const all = (await hostLookups.devices('/dev')) ?? [];
  expect(all.map(({ path }) => path)).toContain('/dev/null');
  expect(all.filter(({ path }) => path.startsWith('/dev/pts/'))).toEqual([]);
});
