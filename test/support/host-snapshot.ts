// What the kernel and the disk hold that a runtime may leak: taken before and after, and compared.
import { execFileSync } from 'node:child_process';
import { type Dirent, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface HostSnapshot {
  netns: string[];
  links: string[];
  addresses: string[];
  routes: string[];
  /** Rules of policy routing. */
  rules: string[];
  firewall: string[];
  mounts: string[];
  reservations: string[];
  cgroups: string[];
  processes: string[];
}

const lines = (text: string) => text.split('\n').filter(line => line !== '');
const output = (command: string, ...args: string[]) =>
  lines(execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));

/** @param mark a text that stands in the command line, the cgroup or the helper's mark of every process of the node under test */
export function hostSnapshot(mark: string): HostSnapshot {
  return {
    netns: list('/run/netns'),
    links: output('ip', '-o', 'link').map(line => line.replace(/^\d+: ([^:@]+).*/, '$1')),
    addresses: addresses(),
    routes: routes(),
    rules: ['-4', '-6'].flatMap(family => output('ip', family, 'rule').map(line => `${family} ${line}`)),
    firewall: firewall(),
    mounts: mounts()
      .filter(({ key }) => !foreignMounts.has(key))
      .map(({ path }) => path),
    reservations: list('/var/lib/cni/networks').flatMap(network =>
      list(join('/var/lib/cni/networks', network))
        .filter(name => /^[0-9a-f.:]+$/.test(name))
        .map(name => `${network}/${name}`),
    ),
    cgroups: cgroups(mark),
    processes: markedProcesses(mark).map(({ command }) => command),
  };
}

/** Not those that the kernel gives each link of its own accord, nor how long they are good for. */
function addresses(): string[] {
  return output('ip', '-o', 'addr')
    .filter(line => !line.includes(' inet6 fe80:'))
    .map(line =>
      line
        .replace(/^\d+: +/, '')
        .replace(/\\.*/, '')
        .replace(/ (tentative|dadfailed)/g, '')
        .trimEnd(),
    );
}

function routes(): string[] {
  const all = [...output('ip', '-4', 'route'), ...output('ip', '-6', 'route')];
  return all
    .filter(line => !/^(fe80:|multicast )/.test(line))
    .map(line => line.replace(' linkdown', '').replace(/ expires \d+sec/, ''));
}

/**
 * Mounts that were there before any test. They are left out: in a mount namespace of its own this process has copies of
 * the host's, which vanish when their owners remove what they stand on.
 */
const foreignMounts = new Set(mounts().map(({ key }) => key));

/** What is mounted here, with what tells each mount from all others. */
function mounts(): { key: string; path: string }[] {
  return lines(readFileSync('/proc/self/mountinfo', 'utf8')).map(line => {
    const [id, , , , path = ''] = line.split(' ');
    return { key: `${id} ${path}`, path };
  });
}

function list(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort() : [];
}

const hasNft = existsSync('/usr/sbin/nft');

/** Chains and rules; not the empty tables and base chains that the first use of iptables makes for good. */
function firewall(): string[] {
  const ofIptables = ['iptables-save', 'ip6tables-save'].flatMap(command =>
    output(command)
      .filter(line => line.startsWith('-A') || line.startsWith(':CNI'))
      .map(line => `${command}: ${line.replace(/ \[.*/, '')}`),
  );
  return hasNft ? [...ofIptables, ...nftRules()] : ofIptables;
}

/** Each rule, set and element with the table and chain that it stands in; what it has counted left out. */
function nftRules(): string[] {
  const place: string[] = [];
  return output('nft', 'list', 'ruleset').flatMap(whole => {
    const line = whole.trim().replace(/counter packets \d+ bytes \d+/, 'counter');
    if (line === '}') place.pop();
    else if (line.endsWith(' {')) place.push(line.slice(0, -2));
    else if (!line.startsWith('#') && !/^type \w+ hook /.test(line))
      return [`nft: ${place.join(': ')}: ${line}`];
    return [];
  });
}

function cgroups(mark: string): string[] {
  const found: string[] = [];
  const walk = (directory: string, depth: number) => {
    for (const entry of entriesOf(directory)) {
      if (!entry.isDirectory()) continue;
      const path = join(directory, entry.name);
      if (path.includes(mark)) found.push(path);
      if (depth < 6) walk(path, depth + 1);
    }
  };
  walk('/sys/fs/cgroup', 0);
  return found.sort();
}

/** None of a directory that has just gone: others on this machine make and remove cgroups too. */
function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** What the daemon starts to do something for it says in its environment whose it is. Image workers rest for a minute. */
function isHelperOf(mark: string, pid: string, command: string): boolean {
  if (/\/worker\.js\b/.test(command)) return false;
  const variables = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
  return variables.some(variable => variable.startsWith('CRI_TS_HELPER_OF=') && variable.includes(mark));
}

/** Living processes that carry the mark; zombies are whoever's that should reap them. */
export function markedProcesses(mark: string): { pid: number; command: string }[] {
  return readdirSync('/proc').flatMap(pid => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      if (/^[ZX]$/.test(stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3))) return [];
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
      const cgroup = readFileSync(`/proc/${pid}/cgroup`, 'latin1');
      const isMarked = command.includes(mark) || cgroup.includes(mark) || isHelperOf(mark, pid, command);
      return isMarked ? [{ pid: Number(pid), command: command.slice(0, 200) }] : [];
    } catch {
      return []; // it ended meanwhile
    }
  });
}
