// Which sysctls a pod may set: those that belong to a namespace the pod has for itself. The runtime would
// refuse the rest too, but only after the network is up, and in words that do not name the pod.
import type { NamespaceOption } from '../../cri-api/types.ts';
import { refuse } from './refuse.ts';

const ipcSysctls: ReadonlySet<string> = new Set([
  'kernel.msgmax',
  'kernel.msgmnb',
  'kernel.msgmni',
  'kernel.sem',
  'kernel.shmall',
  'kernel.shmmax',
  'kernel.shmmni',
  'kernel.shm_rmid_forced',
]);

export interface SysctlRequest {
  subject: string;
  asked: Readonly<Record<string, string>>;
  namespaces: NamespaceOption | null;
  /** Ports below 1024 need no capability. */
  unprivilegedPorts: boolean;
  /** ping needs no capability. */
  unprivilegedIcmp: boolean;
  /** The pod, or this whole host, is in a user namespace of its own. */
  inUserNamespace: boolean;
}

/** The pod's sysctls, with the defaults of its handler where it has a network of its own. */
export function buildSysctls(request: SysctlRequest): Record<string, string> {
  const { subject, asked, namespaces, unprivilegedPorts, unprivilegedIcmp, inUserNamespace } = request;
  const hostNetwork = namespaces?.network === 'NODE';
  const hostIpc = namespaces?.ipc === 'NODE';
  for (const name of Object.keys(asked)) {
    const reason = whyNot(name, { hostNetwork, hostIpc });
    if (reason !== undefined) refuse(subject, `sysctls["${name}"]`, reason);
  }
  const defaults: Record<string, string> = {};
  if (!hostNetwork && unprivilegedPorts) defaults['net.ipv4.ip_unprivileged_port_start'] = '0';
  // In a user namespace the range would name groups that are not mapped, which the kernel refuses.
  if (!hostNetwork && unprivilegedIcmp && !inUserNamespace)
    defaults['net.ipv4.ping_group_range'] = '0 2147483647';
  return { ...defaults, ...asked };
}

function whyNot(
  name: string,
  { hostNetwork, hostIpc }: { hostNetwork: boolean; hostIpc: boolean },
): string | undefined {
  if (!/^[a-zA-Z0-9_-]+([./][a-zA-Z0-9_-]+)+$/.test(name)) return 'is not the name of a sysctl';
  const dotted = withDots(name);
  if (dotted.startsWith('net.')) {
    return hostNetwork ? "cannot be set in a pod that uses the host's network" : undefined;
  }
  if (ipcSysctls.has(dotted) || dotted.startsWith('fs.mqueue.')) {
    return hostIpc ? "cannot be set in a pod that uses the host's IPC" : undefined;
  }
  if (dotted === 'kernel.domainname') {
    return hostNetwork ? "cannot be set in a pod that uses the host's UTS namespace" : undefined;
  }
  return 'belongs to no namespace of a pod: it would change the whole host';
}

/** sysctl(8) takes either separator; the first one decides which it is, and the other stands for itself. */
function withDots(name: string): string {
  if (/[./]/.exec(name)?.[0] !== '/') return name;
  return name.replace(/[./]/g, separator => (separator === '/' ? '.' : '/'));
}
