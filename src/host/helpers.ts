// Helpers are the short-lived processes that the daemon starts to do something for it: an OCI runtime, a CNI plugin, a
// monitor that creates a container. A daemon that is killed leaves them at it, and what they then make would be there
// after its successor has taken away everything that it found. So they carry a mark in their environment, and the
// successor begins with waiting for them.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { killTree } from './process-tree.ts';
import { identify, type ProcessIdentity } from './process-watch.ts';

const mark = 'CRI_TS_HELPER_OF';

/** Marks all helpers from now on as those of the daemon with this state directory. */
export function markHelpers(state: string): void {
  process.env[mark] = state;
}

/** What the environment of every helper must hold. */
export function helperEnvironment(): Record<string, string> {
  const owner = process.env[mark];
  return owner === undefined ? {} : { [mark]: owner };
}

export interface LeftHelpers {
  /** The state directory of the daemon that left them. */
  state: string;
  /** Executable of the monitors, which do not end by themselves. */
  monitor: string;
  /** Whether it is to stay: a monitor whose container goes on. */
  keep(helper: Helper): boolean;
  /** Milliseconds that helpers have to end by themselves; then they are killed. */
  patienceMs: number;
}

/** What was found, for the log. */
export interface HelpersEnded {
  waitedFor: number;
  killed: number;
}

/** Resolves when no helper of an earlier daemon is left but the monitors to keep, as far as killing ends them. */
export async function endLeftHelpers({
  state,
  monitor,
  keep,
  patienceMs,
}: LeftHelpers): Promise<HelpersEnded> {
  const left = () => helpersOf(state).filter(helper => !keep(helper));
  const working = () => left().filter(({ args }) => args[0] !== monitor);
  const waitedFor = new Set<number>();
  // A plugin or runtime that is let finish leaves something whole, which can be undone; a killed one may not.
  const patience = AbortSignal.timeout(patienceMs);
  for (let busy = working(); busy.length > 0 && !patience.aborted; busy = working()) {
    for (const { pid } of busy) waitedFor.add(pid);
    await sleep(pollMs);
  }
  const killed = new Set<number>();
  const end = AbortSignal.timeout(endMs);
  for (let rest = left(); rest.length > 0 && !end.aborted; rest = left()) {
    for (const helper of rest) {
      killed.add(helper.pid);
      killTree(helper);
    }
    await sleep(pollMs);
  }
  return { waitedFor: waitedFor.size, killed: killed.size };
}

const pollMs = 10;
/** How long killed processes have to end; one that hangs in the kernel may never. */
const endMs = 5000;

export interface Helper extends ProcessIdentity {
  /** Its command line. */
  args: readonly string[];
}

/** Every helper that there is of the daemon with this state directory. */
export function helpersOf(state: string): Helper[] {
  const wanted = `${mark}=${state}`;
  return readdirSync('/proc').flatMap(name => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      const environment = readFileSync(`/proc/${name}/environ`, 'latin1').split('\0');
      const identity = environment.includes(wanted) ? identify(Number(name)) : undefined;
      const args = readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0');
      return identity ? [{ ...identity, args }] : [];
    } catch {
      return []; // it ended meanwhile, or is a kernel thread
    }
  });
}
