// Reaps the orphans that become our children (we are a subreaper, see process-watch.ts): a container's first process
// whose monitor was killed, say. An unreaped one would not only stay a zombie: the kernel does not let the first
// process of a pid namespace end before all others of the namespace are reaped, so a pod could never be stopped.
import { readdirSync, readFileSync } from 'node:fs';
import { takeEnd } from './wait.ts';

export interface OrphanReaper {
  /** Runs work that makes an orphan of its own and begins to watch it: nothing is reaped meanwhile. */
  hold<T>(work: () => Promise<T>): Promise<T>;
  close(): void;
}

/**
 * How long a child must have been a zombie, in milliseconds. Children that we started or watch are reaped by those
 * who wait for them, at once; what is still there after this long is nobody's.
 */
const patienceMs = 500;

/** @param isWatched says of which children somebody else takes the exit status */
export function startOrphanReaper(isWatched: (pid: number) => boolean): OrphanReaper {
  let holders = 0;
  let suspects = new Set<number>();
  let timer: NodeJS.Timeout | undefined;

  function schedule(): void {
    if (timer) return;
    timer = setTimeout(look, patienceMs);
    timer.unref();
  }

  function look(): void {
    timer = undefined;
    const zombies = zombieChildren();
    if (holders === 0) {
      for (const pid of zombies) if (suspects.has(pid) && !isWatched(pid)) takeEnd('pid', pid);
    }
    suspects = new Set(zombies);
    if (zombies.length > 0) schedule();
  }

  process.on('SIGCHLD', schedule);
  return {
    async hold(work) {
      holders++;
      try {
        return await work();
      } finally {
        holders--;
      }
    },
    close() {
      process.off('SIGCHLD', schedule);
      clearTimeout(timer);
    },
  };
}

function zombieChildren(): number[] {
  return children().filter(pid => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      return stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z');
    } catch {
      return false; // reaped meanwhile
    }
  });
}

/** Our children, of every thread: orphans are given to any of them. */
function children(): number[] {
  return threads().flatMap(thread => {
    try {
      const text = readFileSync(`/proc/self/task/${thread}/children`, 'latin1');
      return text.split(' ').filter(Boolean).map(Number);
    } catch {
      return []; // the thread ended meanwhile
    }
  });
}

/** None when they cannot be listed for lack of a descriptor: the next child that ends is another occasion. */
function threads(): string[] {
  try {
    return readdirSync('/proc/self/task');
  } catch {
    return [];
  }
}
