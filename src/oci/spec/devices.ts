// Device nodes of a container and the device cgroup's rules for them.
import path from 'node:path';
import type { Device as CriDevice, LinuxContainerSecurityContext } from '../../cri-api/types.ts';
import type { SpecLookups } from './lookups.ts';
import { exactInteger, refuse } from './refuse.ts';
import type { Device, DeviceCgroupRule } from './types.ts';

/** Everything is denied first; runtimes add null, zero, full, random, urandom, tty, ptmx and pts by themselves. */
export const denyAllDevices: DeviceCgroupRule = { allow: false, access: 'rwm' };
export const allowAllDevices: DeviceCgroupRule = { allow: true, access: 'rwm' };

export interface DeviceRequest {
  subject: string;
  asked: readonly CriDevice[];
  securityContext: LinuxContainerSecurityContext | null;
  privilegedWithoutHostDevices: boolean;
  /** With the above: no device is denied even so. */
  allDevicesAllowed: boolean;
  /** Nodes of asked devices belong to run_as_user and run_as_group. */
  ownedByRunAs: boolean;
  lookups: Pick<SpecLookups, 'realPath' | 'devices'>;
}

export async function buildDevices(
  request: DeviceRequest,
): Promise<{ devices: Device[]; rules: DeviceCgroupRule[] }> {
  const { securityContext, privilegedWithoutHostDevices, allDevicesAllowed, lookups } = request;
  const privileged = securityContext?.privileged ?? false;
  const asked = (await Promise.all(request.asked.map(device => oneDevice(request, device)))).flat();
  const hosts = privileged && !privilegedWithoutHostDevices ? ((await lookups.devices('/dev')) ?? []) : [];
  const byPath = new Map(
    [...hosts, ...asked.map(({ device }) => device)].map(device => [device.path, device]),
  );
  const open = privileged && (!privilegedWithoutHostDevices || allDevicesAllowed);
  return {
    devices: [...byPath.values()],
    rules: open ? [allowAllDevices] : [denyAllDevices, ...asked.flatMap(({ rule }) => rule)],
  };
}

/** A CRI device may name a directory: then it stands for all devices below it. */
async function oneDevice(
  request: DeviceRequest,
  { hostPath, containerPath, permissions }: CriDevice,
): Promise<{ device: Device; rule: DeviceCgroupRule[] }[]> {
  const { subject, lookups } = request;
  const field = `devices["${hostPath}"]`;
  if (!/^r?w?m?$/.test([...permissions].sort(byAccessOrder).join(''))) {
    refuse(subject, `${field}.permissions`, `"${permissions}" has other letters than r, w and m`);
  }
  if (!path.isAbsolute(hostPath)) refuse(subject, `${field}.host_path`, 'is not an absolute path');
  const inside = containerPath === '' ? hostPath : containerPath;
  if (!path.isAbsolute(inside))
    refuse(subject, `${field}.container_path`, `"${inside}" is not an absolute path`);
  const real = (await lookups.realPath(hostPath)) ?? refuse(subject, field, 'does not exist on this host');
  const found = (await lookups.devices(real)) ?? refuse(subject, field, 'is not a device');
  return found.map(device => ({
    device: {
      ...device,
      ...ownership(request),
      path: path.posix.join(inside, path.relative(real, device.path)),
    },
    rule:
      device.type === 'p'
        ? []
        : [
            {
              allow: true,
              type: device.type,
              major: device.major,
              minor: device.minor,
              access: permissions === '' ? 'rwm' : permissions,
            },
          ],
  }));
}

function byAccessOrder(a: string, b: string): number {
  return 'rwm'.indexOf(a) - 'rwm'.indexOf(b);
}

/** An id of 0, or none, leaves the host's owner. */
function ownership({ subject, securityContext, ownedByRunAs }: DeviceRequest): {
  uid?: number;
  gid?: number;
} {
  if (!ownedByRunAs) return {};
  const uid = exactInteger(securityContext?.runAsUser?.value ?? 0, subject, 'run_as_user');
  const gid = exactInteger(securityContext?.runAsGroup?.value ?? 0, subject, 'run_as_group');
  return { ...(uid > 0 ? { uid } : {}), ...(gid > 0 ? { gid } : {}) };
}
