// Which namespaces a pod's processes live in: new ones, the pod's, another container's, or the host's
// (an entry left out of `linux.namespaces` means the host's).
import type { IDMapping, NamespaceOption, UserNamespace } from '../../cri-api/types.ts';
import { refuse } from './refuse.ts';
import type { IdMapping, Namespace, NamespaceType } from './types.ts';

export interface IdMappings {
  uids: IdMapping[];
  gids: IdMapping[];
}

/** The pod's user namespace mappings; undefined when it has none of its own. */
export function userMappings(
  subject: string,
  asked: UserNamespace | null | undefined,
): IdMappings | undefined {
  if (!asked) return undefined;
  const field = 'namespace_options.userns_options';
  const uids = ociMappings(subject, `${field}.uids`, asked.uids);
  const gids = ociMappings(subject, `${field}.gids`, asked.gids);
  switch (asked.mode) {
    case 'NODE':
      if (uids.length + gids.length > 0)
        refuse(subject, field, 'mode NODE has no mappings, but some are given');
      return undefined;
    case 'POD':
      if (uids.length !== 1 || gids.length !== 1) {
        refuse(subject, field, 'mode POD needs one mapping of user ids and one of group ids');
      }
      for (const [name, [mapping]] of Object.entries({ uids, gids })) {
        if (mapping?.containerID !== 0) {
          refuse(
            subject,
            `${field}.${name}`,
            `id 0 of the container, root, is not mapped: ${JSON.stringify(mapping)}`,
          );
        }
      }
      return { uids, gids };
    default:
      return refuse(subject, `${field}.mode`, `${asked.mode} is not supported; use POD or NODE`);
  }
}

export function ociMappings(subject: string, field: string, given: readonly IDMapping[]): IdMapping[] {
  return given.map(({ containerId, hostId, length }) => {
    if (length < 1) refuse(subject, field, `length ${length} is not positive`);
    return { containerID: containerId, hostID: hostId, size: length };
  });
}

/** A container of a pod must be in the pod's user namespace: same mode, same mappings. */
export function checkSameUserNamespace(
  subject: string,
  pod: UserNamespace | null | undefined,
  container: UserNamespace | null | undefined,
): void {
  const form = (options: UserNamespace | null | undefined) =>
    JSON.stringify([options?.mode ?? 'NODE', sorted(options?.uids), sorted(options?.gids)]);
  if (form(pod) !== form(container)) {
    refuse(subject, 'namespace_options.userns_options', 'differs from that of the pod');
  }
}

function sorted(mappings: readonly IDMapping[] | undefined): number[][] {
  return (mappings ?? [])
    .map(({ containerId, hostId, length }) => [containerId, hostId, length])
    .sort(([a = 0], [b = 0]) => a - b);
}

export interface SandboxNamespaceRequest {
  options: NamespaceOption | null;
  /** Where the pod's network namespace is bound; undefined with the host's network. */
  netnsPath: string | undefined;
  mappings: IdMappings | undefined;
  /** The user namespace that owns the network namespace; undefined = the runtime makes one. */
  usernsPath: string | undefined;
}

/** Namespaces of the pause container, which the pod's containers then join. */
export function sandboxNamespaces(request: SandboxNamespaceRequest): Namespace[] {
  const { options, netnsPath, mappings, usernsPath } = request;
  const hostNetwork = options?.network === 'NODE';
  return [
    namespace('mount'),
    ...(hostNetwork ? [] : [namespace('network', netnsPath), namespace('uts')]),
    ...(options?.ipc === 'NODE' ? [] : [namespace('ipc')]),
    ...(options?.pid === 'NODE' ? [] : [namespace('pid')]),
    ...(mappings === undefined ? [] : [namespace('user', usernsPath)]),
  ];
}

export interface ContainerNamespaceRequest {
  subject: string;
  container: NamespaceOption | null;
  pod: NamespaceOption | null;
  /** Pid of the pod's pause process. */
  sandboxPid: number;
  netnsPath: string | undefined;
  usernsPath: string | undefined;
  /** Pid of the container named by target_id. */
  targetPid: number | undefined;
  mappings: IdMappings | undefined;
  /** A cgroup namespace of its own: cgroup v2, not privileged. */
  cgroupNamespace: boolean;
}

/**
 * Namespaces of a container. Network, IPC and UTS are the pod's, whatever the container says, since that is
 * what sharing a pod means; the PID namespace is the container's own choice.
 */
export function containerNamespaces(request: ContainerNamespaceRequest): Namespace[] {
  const { pod, sandboxPid, netnsPath, usernsPath, mappings, cgroupNamespace } = request;
  const ofPause = (kind: string) => `/proc/${sandboxPid}/ns/${kind}`;
  return [
    namespace('mount'),
    ...(pod?.network === 'NODE'
      ? []
      : [namespace('network', netnsPath ?? ofPause('net')), namespace('uts', ofPause('uts'))]),
    ...(pod?.ipc === 'NODE' ? [] : [namespace('ipc', ofPause('ipc'))]),
    ...pidNamespace(request),
    ...(mappings === undefined ? [] : [namespace('user', usernsPath ?? ofPause('user'))]),
    ...(cgroupNamespace ? [namespace('cgroup')] : []),
  ];
}

function pidNamespace(request: ContainerNamespaceRequest): Namespace[] {
  const { subject, container, pod, sandboxPid, targetPid } = request;
  switch (container?.pid ?? 'POD') {
    case 'CONTAINER':
      return [namespace('pid')];
    case 'TARGET':
      if (targetPid === undefined) {
        refuse(
          subject,
          'namespace_options.target_id',
          `container "${container?.targetId ?? ''}" is not running in this pod`,
        );
      }
      return [namespace('pid', `/proc/${targetPid}/ns/pid`)];
    case 'POD':
    case 'NODE':
      return pod?.pid === 'NODE' ? [] : [namespace('pid', `/proc/${sandboxPid}/ns/pid`)];
  }
}

function namespace(type: NamespaceType, path?: string): Namespace {
  return path === undefined ? { type } : { type, path };
}
