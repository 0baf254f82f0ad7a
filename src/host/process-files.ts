// Open files of processes, as /proc shows them.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { parseLimits } from './facts.ts';

/** Open file descriptors of the processes together, and how many of them are sockets. A process that is gone has none. */
export function countDescriptors(pids: readonly number[]): { all: number; sockets: number } {
  const count = { all: 0, sockets: 0 };
  for (const pid of pids) {
    for (const descriptor of descriptorsOf(pid)) {
      count.all++;
      if (isSocket(`/proc/${pid}/fd/${descriptor}`)) count.sockets++;
    }
  }
  return count;
}

/** Soft limit of open files; undefined when there is none or the process is gone. */
export function openFilesLimit(pid: number): number | undefined {
  try {
    return parseLimits(readFileSync(`/proc/${pid}/limits`, 'utf8')).get('RLIMIT_NOFILE')?.soft;
  } catch {
    return undefined;
  }
}

function descriptorsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

function isSocket(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('socket:');
  } catch {
    return false; // closed meanwhile
  }
}
