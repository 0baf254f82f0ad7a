// Knows at once when a process ends, also one that is not our child (a monitor that an earlier daemon started):
// a pidfd becomes readable when its process ends (src/host/readiness.ts waits for all of them).
// A process is named by pid and start time, because the kernel gives pids out again; and by the boot, because it counts from
// there, and a process of every boot may have the same two.
import { readFileSync } from 'node:fs';
import { codeOf } from '../errors.ts';
import { check, HostError, isShortage, sys } from './libc.ts';
import type { Readiness } from './readiness.ts';
import { takeEnd } from './wait.ts';

/** A process for good. */
export interface ProcessIdentity {
  pid: number;
  /** When it started, in clock ticks since boot (proc(5), stat field 22). */
  startTime: string;
  /** The kernel's id of the boot; '' when it is not known: records of earlier releases have none. */
  bootId: string;
}

const bootId = readBootId();

/** '' where the kernel tells none (gVisor). */
function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/** Whether two names are of one process. */
export function isSameProcess(a: ProcessIdentity, b: ProcessIdentity): boolean {
  return a.pid === b.pid && a.startTime === b.startTime && isSameBoot(a.bootId, b.bootId);
}

/** One that is not known may be any. */
function isSameBoot(a: string, b: string): boolean {
  return a === b || a === '' || b === '';
}

/**
 * Reads who `pid` is now; undefined when no such process lives. A zombie does not live, nor does one that is ending: the
 * first process of a pid namespace may be so for long, until all others of the namespace were reaped.
 * @throws HostError when it cannot be found out, for want of descriptors say
 */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  const lives = stat && stat.state !== 'Z' && stat.state !== 'X' && !stat.isEnding;
  return lives ? { pid, startTime: stat.startTime, bootId } : undefined;
}

/** As identify, but a process that has ended and was not reaped yet is found too: our own child's status waits there. */
export function identifyEnded(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat && { pid, startTime: stat.startTime, bootId };
}

/** True while that very process lives. @throws HostError when it cannot be found out */
export function isAlive(process: ProcessIdentity): boolean {
  const now = identify(process.pid);
  return now !== undefined && isSameProcess(now, process);
}

const exitingFlag = 0x4; // PF_EXITING

function readStat(pid: number): { state: string; isEnding: boolean; startTime: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (error) {
    const code = codeOf(error) ?? 'EIO';
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw new HostError('open', code, `looking whether process ${pid} lives`);
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
   * itself. One that cannot be watched now, for want of descriptors, is told of when there are some. Returns a function
   * that stops the watch.
   */
  watch(process: ProcessIdentity, onExit: (status: ExitStatus) => void): () => void;
  /** True while somebody waits for the end of `pid`. */
  isWatched(pid: number): boolean;
  close(): void;
}

/** How long to wait for descriptors until they are tried again, in milliseconds. */
const watchAgainMs = 1000;

/** Starts the watch; a pidfd becomes readable when its process ends. */
export function startProcessWatch(readiness: Readiness): ProcessWatch {
  /** Pids by the function that stops their watch. */
  const watched = new Map<() => void, number>();
  function watch(process: ProcessIdentity, onExit: (status: ExitStatus) => void): () => void {
    let end = (): void => {};
    const stop = (): void => {
      if (watched.delete(stop)) end();
    };
    const tell = (status: ExitStatus): void => {
      if (!watched.has(stop)) return;
      stop();
      onExit(status);
    };
    const begin = (): void => {
      try {
        end = awaitEnd(process, readiness, tell);
      } catch (error) {
        // Whoever is told of an end takes away what is left of the process: it must not be told of one that lives.
        if (!isShortage(error)) throw error;
        const timer = setTimeout(begin, watchAgainMs);
        end = () => clearTimeout(timer);
      }
    };
    begin();
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

/** Calls `tell` once, when the process ends; the returned function gives up. @throws HostError when it cannot be watched */
function awaitEnd(
  process: ProcessIdentity,
  readiness: Readiness,
  tell: (status: ExitStatus) => void,
): () => void {
  const pidfd = openPidfd(process);
  if (pidfd === undefined) {
    queueMicrotask(() => tell(undefined));
    return () => {};
  }
  try {
    const unwish = readiness.once(pidfd, 'readable', () => tell(takeEnd('pidfd', pidfd)?.status));
    return () => {
      unwish();
      sys.close(pidfd);
    };
  } catch (error) {
    sys.close(pidfd);
    throw error;
  }
}

/** What pidfd_open(2) says of a number that is no process's: EINVAL of one that is a thread's now, or is just ending. */
const noProcess: readonly string[] = ['ESRCH', 'ENOENT', 'EINVAL'];

/** A pidfd for exactly that process; undefined when it has ended. @throws HostError when it cannot be had */
function openPidfd(process: ProcessIdentity): number | undefined {
  if (!isSameBoot(process.bootId, bootId)) return undefined;
  let pidfd: number;
  try {
    pidfd = check(sys.pidfdOpen(process.pid, 0), 'pidfd_open', `opening process ${process.pid}`);
  } catch (error) {
    if (error instanceof HostError && noProcess.includes(error.code)) return undefined;
    throw error;
  }
  let isIt = false;
  try {
    isIt = readStat(process.pid)?.startTime === process.startTime;
  } finally {
    if (!isIt) sys.close(pidfd);
  }
  return isIt ? pidfd : undefined;
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
