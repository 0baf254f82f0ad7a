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

export interface HelpersEnded {
  waitedFor: number;
  killed: number;
  /** Those that stay. */
  kept: Helper[];
}

/** Resolves when no helper of an earlier daemon is left but the monitors to keep, as far as killing ends them. */
export async function endLeftHelpers({
  state,
  monitor,
  keep,
  patienceMs,
}: LeftHelpers): Promise<HelpersEnded> {
  const waitedFor = new Set<number>();
  const killed = new Set<number>();
  // A plugin or runtime that is let finish leaves something whole, which can be undone; a killed one may not.
  const patience = AbortSignal.timeout(patienceMs);
  let end: AbortSignal | undefined;
  for (;;) {
    const found = helpersOf(state);
    const left = found.filter(helper => !keep(helper));
    const working = left.filter(({ args }) => args[0] !== monitor);
    const isOver = left.length === 0 || end?.aborted;
    if (isOver) return { waitedFor: waitedFor.size, killed: killed.size, kept: found.filter(keep) };
    if (!end && working.length > 0 && !patience.aborted) {
      for (const { pid } of working) waitedFor.add(pid);
    } else {
      end ??= AbortSignal.timeout(endMs);
      for (const helper of left) {
        killed.add(helper.pid);
        killTree(helper);
      }
    }
    await sleep(pollMs);
  }
}

const pollMs = 10;
/** How long killed processes have to end; one that hangs in the kernel may never. */
const endMs = 5000;

export interface Helper extends ProcessIdentity {
  /** Its command line. */
  args: readonly string[];
}

/** Every helper that there is of the daemon with this state directory. */
function helpersOf(state: string): Helper[] {
  const wanted = Buffer.from(`${mark}=${state}\0`, 'latin1');
  return readdirSync('/proc').flatMap(name => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      const environment = readFileSync(`/proc/${name}/environ`);
      const at = environment.indexOf(wanted);
      const isHelper = at === 0 || (at > 0 && environment[at - 1] === 0);
      const identity = isHelper ? identify(Number(name)) : undefined;
      return identity
        ? [{ ...identity, args: readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0') }]
        : [];
    } catch {
      return []; // it ended meanwhile, or is a kernel thread
    }
  });
}
