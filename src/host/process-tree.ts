// Ends a process with everything it started.
import { readdirSync, readFileSync } from 'node:fs';
import { isShortage } from './libc.ts';
import { identifyEnded, type ProcessIdentity, signalProcess } from './process-watch.ts';

const [sigkill, sigstop] = [9, 19];
/** How long one that cannot be stopped (it waits in the kernel) is waited for, in milliseconds. */
const longestStopMs = 100;
/** How long to wait for descriptors until they are tried again, in milliseconds. */
const killAgainMs = 1000;

/**
 * Kills a command and all it started: its session (the runtime makes the command the leader of one), its descendants,
 * and theirs. They are stopped first and then killed together: a child whose parent is dead is nobody's descendant, and
 * what is stopped starts nothing more. A stop is not at once: one that is just starting a child ends that first, so the
 * search ends with a look at the processes that finds no more of them, begun after all had stopped.
 * For want of descriptors they may be killed later than now: wait for their ends.
 */
export function killTree(leader: ProcessIdentity): void {
  killTrees([leader]);
}

function killTrees(leaders: readonly ProcessIdentity[]): void {
  const tree = new Map(leaders.map(leader => [leader.pid, leader]));
  try {
    stopTree(tree);
    for (const process of tree.values()) signalProcess(process, sigkill);
  } catch (error) {
    if (!isShortage(error)) throw error;
    setTimeout(killTrees, killAgainMs, [...tree.values()]).unref();
  }
}

/** Stops the processes of `tree`, and all they started, which is put into it. */
function stopTree(tree: Map<number, ProcessIdentity>): void {
  const add = (process: ProcessIdentity) => {
    tree.set(process.pid, process);
    signalProcess(process, sigstop);
  };
  for (const leader of [...tree.values()]) add(leader);
  const patience = performance.now() + longestStopMs;
  // The first quiet look finds all stopped, the second what was started while the first went on.
  for (let quiet = 0; quiet < 2; ) {
    quiet++;
    for (const { pid, parent, session, stopped } of processTable()) {
      if (tree.has(pid) && !stopped && performance.now() < patience) quiet = 0;
      const process =
        !tree.has(pid) && (tree.has(parent) || tree.has(session)) ? identifyEnded(pid) : undefined;
      if (!process) continue;
      add(process);
      quiet = 0;
    }
  }
}

function processTable(): { pid: number; parent: number; session: number; stopped: boolean }[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      try {
        const text = readFileSync(`/proc/${name}/stat`, 'latin1');
        const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
        const stopped = /^[TtZX]$/.test(fields[0] ?? ''); // or ended
        return [{ pid: Number(name), parent: Number(fields[1]), session: Number(fields[3]), stopped }];
      } catch (error) {
        if (isShortage(error)) throw error;
        return []; // it ended meanwhile
      }
    });
}
