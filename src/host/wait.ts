// Takes the exit status of children, by waitid(2) and without waiting. Who takes it must be the one who waits for that
// child: a pid is free for others as soon as its status is taken.
import { constants } from 'node:os';
import { sys } from './libc.ts';

/** How a child ended. Both are undefined when somebody else has taken its status. */
export interface ChildEnd {
  exitCode: number | undefined;
  /** Name of the signal that ended it, such as SIGKILL. */
  signal: string | undefined;
  /** Exit code, or 128 + signal number. */
  status: number | undefined;
}

const idTypes = { pid: 1, pidfd: 3 } as const; // P_PID, P_PIDFD
const exited = 4; // WEXITED
const noHang = 1; // WNOHANG
// siginfo_t: si_code at 8, si_pid at 16, si_status at 24
const infoBytes = 128;
const endedByItself = 1; // CLD_EXITED

const signalNames = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** Takes the status of a child that has ended; undefined while it goes on. */
export function takeEnd(by: keyof typeof idTypes, id: number): ChildEnd | undefined {
  const info = Buffer.alloc(infoBytes);
  if (sys.waitid(idTypes[by], id, info, exited | noHang) !== 0) {
    return { exitCode: undefined, signal: undefined, status: undefined };
  }
  if (info.readInt32LE(16) === 0) return undefined;
  const number = info.readInt32LE(24);
  if (info.readInt32LE(8) === endedByItself) return { exitCode: number, signal: undefined, status: number };
  const signal = signalNames.get(number) ?? `signal ${number}`;
  return { exitCode: undefined, signal, status: 128 + number };
}

/** How long a SIGCHLD may be missed, in milliseconds: signals that come together are one. */
const lookAgainMs = 1000;

/** Waits for the end of a child of ours that nobody else waits for, and takes its status. */
export function endOf(pid: number): Promise<ChildEnd> {
  return new Promise(resolve => {
    const look = () => {
      const end = takeEnd('pid', pid);
      if (!end) return;
      clearInterval(timer);
      process.off('SIGCHLD', look);
      process.setMaxListeners(process.getMaxListeners() - 1);
      resolve(end);
    };
    process.setMaxListeners(process.getMaxListeners() + 1);
    process.on('SIGCHLD', look);
    const timer = setInterval(look, lookAgainMs); // and a listener for signals alone does not keep Node from ending
    look();
  });
}
