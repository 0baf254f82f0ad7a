// Other programs that do the same work on this node: on our socket, or on the same pod network.
import type { Config } from '../../config/types.ts';
import { type Check, type Finding, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

const otherRuntimes: readonly { readonly name: string; readonly socket: string }[] = [
  { name: 'containerd', socket: '/run/containerd/containerd.sock' },
  { name: 'CRI-O', socket: '/run/crio/crio.sock' },
  { name: 'cri-dockerd', socket: '/run/cri-dockerd.sock' },
];

export const criSocket: Check = {
  name: 'CRI socket',
  run: async (host, config) => {
    const path = config.server.socketPath;
    const why = 'kubelet finds the runtime there (containerRuntimeEndpoint)';
    if (!host.exists(path)) return [ok(`${path} is free`, why)];
    if (!(await host.socketAnswers(path))) {
      return [ok(`${path} is left over from a daemon that is gone; the next start replaces it`, why)];
    }
    const owner = ownerOf(host, path);
    if (owner?.command.includes('cri-ts')) return [ok(`${path} is served by cri-ts (pid ${owner.pid})`, why)];
    const who = owner === undefined ? 'another program' : `${owner.command} (pid ${owner.pid})`;
    return [
      fail(
        `${path} is served by ${who}`,
        `${why}; two programs cannot share it`,
        'Stop the other runtime (systemctl disable --now containerd), or choose another socket with --address.',
      ),
    ];
  },
};

export const neighbours: Check = {
  name: 'other runtimes',
  run: async (host, config) => {
    const findings: Finding[] = [];
    for (const { name, socket } of await servingNeighbours(host, config)) {
      findings.push(
        config.cni.confDir === '/etc/cni/net.d'
          ? warn(
              `${name} serves ${socket} and by default uses the same CNI configuration, ${config.cni.confDir}`,
              'to a network plugin, pods of the other runtime look like left-overs of ours: its garbage collection (CNI GC) may free their addresses',
              `Stop ${name}, or give cri-ts a directory of its own with networks of other names (--cni-conf-dir).`,
            )
          : info(
              `${name} serves ${socket}`,
              'it can run beside cri-ts as long as their pod networks have different names',
            ),
      );
    }
    return findings.length > 0
      ? findings
      : [ok('none is running', "two runtimes on one pod network take away each other's addresses")];
  },
};

/** Other runtimes that serve on this node now. */
export async function servingNeighbours(
  host: HostView,
  config: Config,
): Promise<{ name: string; socket: string }[]> {
  const serving: { name: string; socket: string }[] = [];
  for (const other of otherRuntimes) {
    const { socket } = other;
    if (socket === config.server.socketPath || !host.exists(socket)) continue;
    if (await host.socketAnswers(socket)) serving.push(other);
  }
  return serving;
}

/** The process that holds the listening end of a unix socket. */
function ownerOf(host: HostView, path: string): { pid: number; command: string } | undefined {
  // columns of /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path
  const inode = (host.readText('/proc/net/unix') ?? '')
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .find(([, , , flags, , , , socketPath]) => socketPath === path && flags === '00010000')?.[6];
  if (inode === undefined) return undefined;
  for (const pid of host.list('/proc').filter(name => /^\d+$/.test(name))) {
    const holds = host
      .list(`/proc/${pid}/fd`)
      .some(fd => host.readLink(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`);
    if (!holds) continue;
    const command = (host.readText(`/proc/${pid}/cmdline`) ?? '').replaceAll('\0', ' ').trim();
    return { pid: Number(pid), command };
  }
  return undefined;
}
