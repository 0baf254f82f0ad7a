// Knows at once when a process ends, also one that is not our child (a monitor that an earlier daemon started):
// a pidfd becomes readable when its process ends (src/host/readiness.ts waits for all of them).
// A process is named by pid and start time, because the kernel gives pids out again.
import { readFileSync } from 'node:fs';
import { check, HostError, sys } from './libc.ts';
import type { Readiness } from './readiness.ts';
import { takeEnd } from './wait.ts';

/** A process for good: its pid, and when it started in clock ticks since boot (proc(5), stat field 22). */
export interface ProcessIdentity {
  pid: number;
  startTime: string;
}

/**
 * Reads who `pid` is now; undefined when no such process lives. A zombie does not live, nor does one that is ending: the
 * first process of a pid namespace may be so for long, until all others of the namespace were reaped.
 */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  const lives = stat && stat.state !== 'Z' && stat.state !== 'X' && !stat.isEnding;
  return lives ? { pid, startTime: stat.startTime } : undefined;
}

/** As identify, but a process that has ended and was not reaped yet is found too: our own child's status waits there. */
export function identifyEnded(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat && { pid, startTime: stat.startTime };
}

/** True while that very process lives. */
export function isAlive(process: ProcessIdentity): boolean {
  return identify(process.pid)?.startTime === process.startTime;
}

const exitingFlag = 0x4; // PF_EXITING

function readStat(pid: number): { state: string; isEnding: boolean; startTime: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The command name (field 2) is in brackets and may hold anything, so count from its end.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, flags, startTime] = [fields[0], fields[6], fields[19]];
  if (state === undefined || startTime === undefined) return undefined;
  return { state, isEnding: (Number(flags) & exitingFlag) !== 0, startTime };
}

/** How a child ended, where the kernel told us: exit code, or 128 + signal number. */
export type ExitStatus = number | undefined;

export interface ProcessWatch {
  /**
   * Calls `onExit` once when the process ends, at once when it has already ended. Of a child (a monitor, or an orphan that
   * became one, see becomeSubreaper) the exit status is taken. Not for what node:child_process started, which takes it
   * itself. Returns a function that stops the watch.
   */
  watch(process: ProcessIdentity, onExit: (status: ExitStatus) => void): () => void;
  /** True while somebody waits for the end of `pid`. */
  isWatched(pid: number): boolean;
  close(): void;
}

/** Starts the watch; a pidfd becomes readable when its process ends. */
export function startProcessWatch(readiness: Readiness): ProcessWatch {
  /** Pids by the function that stops their watch. */
  const watched = new Map<() => void, number>();
  function watch(process: ProcessIdentity, onExit: (status: ExitStatus) => void): () => void {
    const pidfd = openPidfd(process);
    if (pidfd === undefined) {
      queueMicrotask(() => onExit(undefined));
      return () => {};
    }
    const unwish = readiness.once(pidfd, 'readable', () => {
      const status = takeEnd('pidfd', pidfd)?.status;
      stop();
      onExit(status);
    });
    const stop = (): void => {
      if (!watched.delete(stop)) return;
      unwish();
      sys.close(pidfd);
    };
    watched.set(stop, process.pid);
    return stop;
  }
  return {
    watch,
    isWatched: pid => [...watched.values()].includes(pid),
    close() {
      for (const stop of watched.keys()) stop();
    },
  };
}

/** A pidfd for exactly that process; undefined when it has ended. */
function openPidfd(process: ProcessIdentity): number | undefined {
  const pidfd = sys.pidfdOpen(process.pid, 0);
  if (pidfd < 0) return undefined;
  if (readStat(process.pid)?.startTime === process.startTime) return pidfd;
  sys.close(pidfd);
  return undefined;
}

/** Sends a signal to exactly that process. Returns false when it has ended. @throws HostError */
export function signalProcess(process: ProcessIdentity, signal: number): boolean {
  const pidfd = openPidfd(process);
  if (pidfd === undefined) return false;
  try {
    check(
      sys.pidfdSendSignal(pidfd, signal, null, 0),
      'pidfd_send_signal',
      `signalling process ${process.pid}`,
    );
    return true;
  } catch (error) {
    if (error instanceof HostError && error.code === 'ESRCH') return false;
    throw error;
  } finally {
    sys.close(pidfd);
  }
}

/**
 * Makes orphans of our children become our children: a container's first process whose monitor was killed is
 * then reaped here, also where the machine's init reaps nothing. prctl(2) PR_SET_CHILD_SUBREAPER.
 */
export function becomeSubreaper(): void {
  check(sys.prctl(36, 1, 0, 0, 0), 'prctl PR_SET_CHILD_SUBREAPER', 'adopting orphans');
}
