// Where the walk works on this machine. On a fresh one that is the daemon's embedded defaults and the network of the
// CNI files below as they stand; what somebody else uses already is left alone, and a place beside it taken.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { say } from './print.ts';

export interface Places {
  /** A new directory of the walk's own, for everything that has no given place. */
  directory: string;
  root: string;
  state: string;
  socket: string;
  cniConfDir: string;
  /** Flags with which the daemon and the command line find these places; none on a fresh machine. */
  flags: string[];
  /** Name of the CNI network, which is also that of its directory of IP reservations. */
  network: string;
  bridge: string;
  /** First three numbers of the pods' addresses. */
  subnet: string;
  /** Parent cgroup of the pods. */
  cgroupParent: string;
  outside: {
    netns: string;
    /** The node's end of the cable to the outside. */
    link: string;
    /** First three numbers of the addresses outside; the node is .1, the server .2. */
    subnet: string;
  };
}

const hostLocalDir = '/var/lib/cni/networks';

export const reservationDir = ({ network }: Pick<Places, 'network'>) => join(hostLocalDir, network);

export async function findPlaces(directory: string): Promise<Places> {
  const { stdout: routes } = await execa('ip', ['-4', 'route', 'show', 'table', 'all']);
  const links = await linkNames();
  const isFreeLink = (name: string) => !links.includes(name);
  const isFreeNet = (net: string) => !routes.includes(`${net}.`);
  const flags: string[] = [];

  let [root, state] = ['/var/lib/cri-ts', '/run/cri-ts'];
  let socket = join(state, 'cri-ts.sock');
  if (existsSync(root) || existsSync(state)) {
    say(`${root} or ${state} exists and stays as it is: using directories below ${directory}`);
    [root, state, socket] = [
      join(directory, 'root'),
      join(directory, 'state'),
      join(directory, 'cri-ts.sock'),
    ];
    flags.push('--root', root, '--state', state, '--address', socket);
  }
  if (existsSync('/etc/cri-ts/config.toml')) {
    say('/etc/cri-ts/config.toml is left out: this is about the defaults');
    flags.push('--config', '/dev/null');
  }
  let cniConfDir = '/etc/cni/net.d';
  if (existsSync(cniConfDir) && readdirSync(cniConfDir).length > 0) {
    say(`${cniConfDir} holds files and stays as it is: using ${directory}/net.d`);
    cniConfDir = join(directory, 'net.d');
    flags.push('--cni-conf-dir', cniConfDir);
  }
  return {
    directory,
    root,
    state,
    socket,
    cniConfDir,
    flags,
    network: free('network name', ['bridge', 'quickstart'], name => !existsSync(join(hostLocalDir, name))),
    bridge: free('bridge', ['cni0', 'cniqs0', 'cniqs1'], isFreeLink),
    subnet: free('pod network', ['10.200.0', '10.201.0', '10.202.0'], isFreeNet),
    cgroupParent: `/cri-ts-quickstart-${process.pid}`,
    outside: {
      netns: free(
        'namespace',
        ['cri-ts-outside', `cri-ts-outside-${process.pid}`],
        name => !existsSync(`/run/netns/${name}`),
      ),
      link: free('link', ['uplink0', 'uplink1', 'uplink2'], isFreeLink),
      subnet: free('outside network', ['192.0.2', '198.51.100', '203.0.113'], isFreeNet), // RFC 5737
    },
  };
}

/** Names of the network interfaces; asked of the kernel, since /sys may show those of another namespace. */
export async function linkNames(): Promise<string[]> {
  const { stdout } = await execa('ip', ['-o', 'link']);
  return stdout.split('\n').map(line => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? '');
}

function free(kind: string, candidates: readonly string[], isFree: (name: string) => boolean): string {
  const found = candidates.find(isFree);
  if (found === undefined)
    throw new Error(`every ${kind} of ${candidates.join(', ')} is in use on this machine`);
  return found;
}

/** The CNI configuration that the walk works with, by file name. */
export function cniFiles({ network, bridge, subnet }: Places): Record<string, string> {
  return {
    '10-bridge.conf': `{
  "cniVersion": "1.0.0",
  "name": "${network}",
  "type": "bridge",
  "bridge": "${bridge}",
  "isGateway": true,
  "ipMasq": true,
  "ipam": {
    "type": "host-local",
    "ranges": [[{"subnet": "${subnet}.0/24"}]],
    "routes": [{"dst": "0.0.0.0/0"}]
  }
}
`,
    '99-loopback.conf': `{
  "cniVersion": "1.1.0",
  "name": "lo",
  "type": "loopback"
}
`,
  };
}
