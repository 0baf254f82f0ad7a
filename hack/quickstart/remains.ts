// What the host holds of the walk: everything that carries one of its marks (ids, names, addresses, directories).
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';

export type Remains = Record<string, string[]>;

/**
 * Looks for the marks in every place where a runtime may leak, by kind of object.
 * @param marks texts that nothing else on the host carries
 * @param reservations host-local's directory of the network
 */
export async function findRemains(marks: readonly string[], reservations: string): Promise<Remains> {
  const marked = (lines: readonly string[]) => lines.filter(line => marks.some(mark => line.includes(mark)));
  return {
    'network namespaces': marked(list('/run/netns')),
    'links (veth, bridge)': marked(await output('ip', '-o', 'link')).map(line =>
      line.replace(/^\d+: ([^:@]+).*/, '$1'),
    ),
    'addresses and routes': marked([
      ...(await output('ip', '-o', 'addr')),
      ...(await output('ip', 'route', 'show', 'table', 'all')),
    ]),
    'firewall chains and rules': marked([
      ...(await output('iptables-save')),
      ...(await output('ip6tables-save')),
    ]),
    mounts: marked(readFileSync('/proc/self/mountinfo', 'utf8').split('\n')).map(
      line => line.split(' ')[4] ?? '',
    ),
    cgroups: marked(directoriesBelow('/sys/fs/cgroup', 8)),
    processes: marked(processes()),
    'IP reservations': list(reservations).filter(name => /^[0-9a-f.:]+$/.test(name)),
  };
}

function list(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

async function output(command: string, ...args: string[]): Promise<string[]> {
  const { stdout } = await execa(command, args, { reject: false });
  return stdout.split('\n');
}

function directoriesBelow(directory: string, depth: number): string[] {
  if (depth === 0) return [];
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => join(directory, entry.name))
      .flatMap(path => [path, ...directoriesBelow(path, depth - 1)]);
  } catch {
    return []; // it went meanwhile
  }
}

/** Each living process as its command line, cgroups and environment in one line. */
function processes(): string[] {
  return list('/proc').flatMap(pid => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const isZombie = /^\) [ZX]/.test(stat.slice(stat.lastIndexOf(')')));
      if (isZombie) return [];
      const [command = '', ...more] = ['cmdline', 'cgroup', 'environ'].map(name =>
        readFileSync(`/proc/${pid}/${name}`, 'latin1').replaceAll(/[\0\n]/g, ' '),
      );
      return [`${pid} ${command} ${more.join(' ')}`];
    } catch {
      return []; // it ended meanwhile
    }
  });
}
