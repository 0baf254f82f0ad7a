// Counters of the network devices that a process sees, which are those of its network namespace
// (proc_pid_net(5), /proc/PID/net/dev). Needs no entering of the namespace.
import { readFileSync } from 'node:fs';

export interface NetworkDevice {
  name: string;
  received: TrafficCounters;
  transmitted: TrafficCounters;
}

export interface TrafficCounters {
  bytes: number;
  packets: number;
  errors: number;
  dropped: number;
}

/** The devices but lo; undefined when the process is gone. */
export function readNetworkDevices(pid: number): NetworkDevice[] | undefined {
  try {
    return parseNetworkDevices(readFileSync(`/proc/${pid}/net/dev`, 'utf8'));
  } catch {
    return undefined; // ENOENT, or EINVAL for a process that is ending
  }
}

/** Two lines of headings, then `name: 8 counters received 8 counters transmitted`. */
export function parseNetworkDevices(text: string): NetworkDevice[] {
  return text
    .split('\n')
    .slice(2)
    .flatMap(line => {
      const colon = line.lastIndexOf(':'); // a name may hold one
      const name = line.slice(0, colon).trim();
      if (colon === -1 || name === 'lo') return [];
      const counters = line
        .slice(colon + 1)
        .trim()
        .split(/\s+/)
        .map(Number);
      return [{ name, received: countersAt(counters, 0), transmitted: countersAt(counters, 8) }];
    });
}

function countersAt(counters: readonly number[], start: number): TrafficCounters {
  const [bytes = 0, packets = 0, errors = 0, dropped = 0] = counters.slice(start);
  return { bytes, packets, errors, dropped };
}
