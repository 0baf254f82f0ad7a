// Lays the edits of CDI devices over a finished container spec (CDI SPEC.md, "containerEdits").
import { CriError } from '../../errors.ts';
import type { SpecLookups } from '../spec/lookups.ts';
import type { Device, DeviceCgroupRule, RuntimeSpec } from '../spec/types.ts';
import type { CdiDeviceNode, CdiEdits } from './registry.ts';

/** Changes `spec`. @throws CriError invalidArgument for a device node that is not on the host */
export async function applyCdiEdits(
  spec: RuntimeSpec,
  edits: readonly CdiEdits[],
  lookups: Pick<SpecLookups, 'devices'>,
  subject: string,
): Promise<void> {
  for (const { env, deviceNodes, mounts, hooks, additionalGids } of edits) {
    for (const variable of env) setEnv(spec, variable);
    for (const node of deviceNodes) addDevice(spec, await hostDevice(node, lookups, subject), node);
    for (const { hostPath, containerPath, options, type } of mounts) {
      spec.mounts = spec.mounts.filter(({ destination }) => destination !== containerPath);
      spec.mounts.push({
        destination: containerPath,
        source: hostPath,
        type: type || 'bind',
        options: [...options],
      });
    }
    for (const { hookName, ...hook } of hooks) {
      spec.hooks ??= {};
      spec.hooks[hookName] = [...(spec.hooks[hookName] ?? []), hook];
    }
    // Group 0 would give away the very protection that groups are for.
    const gids = additionalGids.filter(gid => gid !== 0);
    spec.process.user.additionalGids = [...new Set([...spec.process.user.additionalGids, ...gids])];
  }
}

function setEnv(spec: RuntimeSpec, variable: string): void {
  const name = variable.slice(0, variable.indexOf('=') + 1);
  spec.process.env = [...spec.process.env.filter(other => name === '' || !other.startsWith(name)), variable];
}

/** The node with what the file leaves out taken from the host's device. */
async function hostDevice(
  node: CdiDeviceNode,
  lookups: Pick<SpecLookups, 'devices'>,
  subject: string,
): Promise<Device> {
  const { path, hostPath = path, type, major, minor, fileMode, uid, gid } = node;
  const known = type !== undefined && (type === 'p' || (major !== undefined && minor !== undefined));
  const found = known ? undefined : (await lookups.devices(hostPath))?.[0];
  if (!known && !found)
    throw new CriError('invalidArgument', `${subject}: CDI device node ${hostPath} is not on this host`);
  return {
    path,
    type: type === undefined || type === 'u' ? (found?.type ?? 'c') : type,
    major: major ?? found?.major ?? 0,
    minor: minor ?? found?.minor ?? 0,
    fileMode: fileMode ?? found?.fileMode ?? 0o666,
    uid: uid ?? found?.uid ?? 0,
    gid: gid ?? found?.gid ?? 0,
  };
}

function addDevice(spec: RuntimeSpec, device: Device, { permissions = 'rwm' }: CdiDeviceNode): void {
  spec.linux.devices = [...(spec.linux.devices ?? []).filter(({ path }) => path !== device.path), device];
  if (device.type === 'p') return;
  const rule: DeviceCgroupRule = {
    allow: true,
    type: device.type,
    major: device.major,
    minor: device.minor,
    access: permissions || 'rwm',
  };
  spec.linux.resources.devices = [...(spec.linux.resources.devices ?? []), rule];
}
