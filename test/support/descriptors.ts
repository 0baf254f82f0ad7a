// The open file descriptors of a daemon, to be compared with those of a daemon that has just started and does nothing.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { TestNode } from './node.ts';

/**
 * What each descriptor is, such as a path, `pipe` or `anon_inode:[pidfd]`; none for a daemon that does not run. Left out are
 * connections of clients, which are the tests' own, and the sockets to image workers, which rest for a minute
 * before they end.
 */
export function descriptorsOf(node: TestNode): string[] {
  const pid = node.pid();
  const ofClients = clientConnections(pid, node.socket);
  const found = linksOf(pid)
    .filter(link => !ofClients.has(link))
    .map(link => link.replace(/^(pipe|socket):.*/, '$1'))
    .sort();
  for (let left = imageWorkers(pid); left > 0; left--) {
    const at = found.indexOf('socket');
    if (at >= 0) found.splice(at, 1);
  }
  return found;
}

function linksOf(pid: number): string[] {
  return namesIn(`/proc/${pid}/fd`).flatMap(fd => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // the process has ended
  }
}

/** Links of the connected sockets of the daemon's own address, as /proc/PID/fd has them. */
function clientConnections(pid: number, address: string): Set<string> {
  const connected = '03';
  const links = textOf(`/proc/${pid}/net/unix`)
    .split('\n')
    .map(line => line.trim().split(/ +/))
    .filter(([, , , , , state, , path]) => state === connected && path === address)
    .map(([, , , , , , inode]) => `socket:[${inode}]`);
  return new Set(links);
}

function imageWorkers(parent: number): number {
  const children = textOf(`/proc/${parent}/task/${parent}/children`).split(' ').filter(Boolean);
  return children.filter(pid => /\/worker\.js\b/.test(textOf(`/proc/${pid}/cmdline`))).length;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // the process has ended
  }
}
