// The files that every container of a pod shares: hostname, hosts, resolv.conf and the pod's /dev/shm.
import { chmodSync, chownSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { DNSConfig, PodSandboxConfig, UserNamespace } from '../cri-api/types.ts';
import { CriError } from '../errors.ts';
import { makeDirectoriesSync } from '../host/directories.ts';
import { mount, unmount } from '../host/mount.ts';
import { hostId } from '../host/userns.ts';
import { userNamespaceOf, usesHostIpc } from './sandbox.ts';

/** Paths of one sandbox, all below its own directory under `state`. */
export interface SandboxPaths {
  /** The OCI bundle and everything else. */
  directory: string;
  hostname: string;
  hosts: string;
  resolvConf: string;
  /** The host's own /dev/shm when the pod shares the host's ipc namespace. */
  shm: string;
}

export function sandboxPaths(state: string, id: string, config: PodSandboxConfig): SandboxPaths {
  const directory = join(state, 'sandboxes', id);
  return {
    directory,
    hostname: join(directory, 'hostname'),
    hosts: join(directory, 'hosts'),
    resolvConf: join(directory, 'resolv.conf'),
    shm: usesHostIpc(config) ? '/dev/shm' : join(directory, 'shm'),
  };
}

/** Bytes of a pod's /dev/shm, Docker's and containerd's default. */
const shmSize = 64 * 1024 * 1024;

/** Writes the files and mounts the shm; what it finds from a run before is replaced. */
export function makeSandboxFiles(paths: SandboxPaths, config: PodSandboxConfig): void {
  // At once and not through the thread pool: they are a few bytes in memory, and the pause container waits for them.
  const [uid, gid] = podRoot(config);
  const contents: [path: string, content: string][] = [
    [paths.hostname, `${podHostname(config)}\n`],
    [paths.hosts, hostFile('/etc/hosts', '127.0.0.1\tlocalhost\n')],
    [paths.resolvConf, resolvConfOf(config.dnsConfig)],
  ];
  for (const [path, content] of contents) {
    writeFileSync(path, content, { mode: 0o644 });
    if (uid !== 0 || gid !== 0) chownSync(path, uid, gid);
  }
  if (usesHostIpc(config)) return;
  makeDirectoriesSync(paths.shm, 0o700);
  mount({
    source: 'shm',
    target: paths.shm,
    type: 'tmpfs',
    flags: ['nosuid', 'nodev', 'noexec'],
    data: `mode=1777,size=${shmSize},uid=${uid},gid=${gid}`,
  });
}

/** Who root of the pod is on the node. */
function podRoot(config: PodSandboxConfig): [uid: number, gid: number] {
  const mappings = userNamespaceOf(config);
  if (!mappings) return [0, 0];
  return [hostId(mappings.uids, 0) ?? 0, hostId(mappings.gids, 0) ?? 0];
}

/** Takes the shm away; the files go with the directory. */
export function removeSandboxFiles(paths: SandboxPaths, config: PodSandboxConfig): void {
  if (usesHostIpc(config)) return;
  while (unmount(paths.shm)) {
    // an attempt that was killed may have left one mount over another
  }
}

/**
 * Makes the directory of a sandbox or container, for root alone: below it is what others on the host must not reach even
 * when they know the id, such as set-user-id programs of images and the pod's /dev/shm. Root of a pod with a user
 * namespace is another user of the host, and must pass through.
 */
export function makePrivateDirectory(path: string, userns: UserNamespace | null | undefined): void {
  makeDirectoriesSync(path, 0o700);
  const rootGroup =
    userns?.mode === 'POD' ? userns.gids.find(({ containerId }) => containerId === 0) : undefined;
  chownSync(path, 0, rootGroup?.hostId ?? 0);
  chmodSync(path, rootGroup ? 0o710 : 0o700);
}

/** Removes the sandbox's directory, which must hold no mount any more. */
export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

/** The pod's hostname: its own, or else the node's, which a new UTS namespace begins with. */
export function podHostname(config: PodSandboxConfig): string {
  return config.hostname === '' ? hostname() : config.hostname;
}

/** Text of a file of the host's; `otherwise` when there is none. */
function hostFile(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return otherwise;
  }
}

function resolvConfOf(dns: DNSConfig | null): string {
  const says = dns && (dns.servers.length > 0 || dns.searches.length > 0 || dns.options.length > 0);
  return says ? resolvConf(dns) : hostFile('/etc/resolv.conf', '');
}

const maxSearches = 32; // kubelet's own bound; glibc since 2.26 has none

/** resolv.conf(5) from the pod's DNSConfig. @throws CriError invalidArgument for values that would break the file */
export function resolvConf({ servers, searches, options }: DNSConfig): string {
  for (const value of [...servers, ...searches, ...options]) {
    if (!/^[^\s\0]+$/.test(value))
      throw new CriError(
        'invalidArgument',
        `dns_config holds ${JSON.stringify(value)}: a value must not be empty or have white space in it`,
      );
  }
  if (searches.length > maxSearches) {
    throw new CriError(
      'invalidArgument',
      `dns_config has ${searches.length} search domains, at most ${maxSearches} are possible`,
    );
  }
  return [
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...servers.map(server => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
    '',
  ].join('\n');
}
