// Starts a child by posix_spawn(3), and never through a shell. node:child_process forks: the kernel copies the page tables
// of the whole daemon, and until that is done, for 3 to 5 ms, nothing is answered. A spawned child borrows them until
// it executes its program, which takes 0.2 ms, or as long as a busy node makes it wait for its turn: so a thread of libuv's
// pool waits for it, and not the event loop. Its end is awaited by src/host/wait.ts, or by pidfd.
import { closeSync } from 'node:fs';
import { promisify } from 'node:util';
import { findExecutable } from './executables.ts';
import { check, hostErrorOf, sys } from './libc.ts';

export interface SpawnRequest {
  /** Absolute path, or a name that is looked up on the default PATH. */
  file: string;
  /** Those after the program's name. */
  args: readonly string[];
  /** The whole environment of the child; nothing is inherited. */
  env: Readonly<Record<string, string>>;
  cwd?: string | undefined;
  /**
   * Which of our descriptors become the child's 0, 1, 2 and so on; undefined = /dev/null. They stay open here. All others
   * must close on exec, as everything does that Node opens.
   */
  stdio: readonly (number | undefined)[];
}

const readWrite = 2; // O_RDWR
const duplicateAbove = 1030; // F_DUPFD_CLOEXEC
// POSIX_SPAWN_SETSIGDEF, _SETSIGMASK, _SETSID
const [defaultSignals, signalMask, ownSession] = [0x04, 0x08, 0x80];
// posix_spawn_file_actions_t and posix_spawnattr_t of glibc take 80 and 336 bytes.
const structBytes = 512;
const signalSetBytes = 128;

const posixSpawn = promisify(sys.posixSpawn.async) as (
  pid: Int32Array,
  path: string,
  actions: Buffer,
  attributes: Buffer,
  argv: readonly (string | null)[],
  envp: readonly (string | null)[],
) => Promise<number>;

/**
 * Starts the child in a session of its own, so that a signal to the foreground daemon does not reach it, and what it starts
 * can be killed with it. Returns its pid; somebody must wait for its end. The descriptors may be closed when it is there.
 * @throws HostError with the system's code when the program cannot be executed
 */
export async function spawnChild({ file, args, env, cwd, stdio }: SpawnRequest): Promise<number> {
  const path = findExecutable(file);
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  requireNoNul([path, ...args, ...variables, cwd ?? '']);
  const [actions, settings] = [Buffer.alloc(structBytes), attributes()];
  const lifted: number[] = [];
  sys.spawnActionsInit(actions);
  try {
    // A descriptor whose number is that of another's place would be gone before its turn.
    const sources = stdio.map(fd => {
      if (fd === undefined || fd >= stdio.length) return fd;
      const copy = check(sys.fcntl(fd, duplicateAbove, stdio.length), 'fcntl', `starting ${file}`);
      lifted.push(copy);
      return copy;
    });
    for (const [place, fd] of sources.entries()) {
      if (fd === undefined) sys.spawnActionsAddOpen(actions, place, '/dev/null', readWrite, 0);
      else sys.spawnActionsAddDup2(actions, fd, place);
    }
    if (cwd !== undefined) sys.spawnActionsAddChdir(actions, cwd);
    const pid = new Int32Array(1);
    const errno = await posixSpawn(pid, path, actions, settings, [file, ...args, null], [...variables, null]);
    if (errno !== 0) throw hostErrorOf(errno, 'posix_spawn', `starting ${file}`);
    return pid[0] ?? 0;
  } finally {
    sys.spawnActionsDestroy(actions);
    sys.spawnAttributesDestroy(settings); // which also keeps both in memory until the thread has done with them
    for (const fd of lifted) closeSync(fd);
  }
}

/** Signals as a program expects them: none blocked, none ignored (Node ignores SIGPIPE). */
function attributes(): Buffer {
  const made = Buffer.alloc(structBytes);
  sys.spawnAttributesInit(made);
  sys.spawnAttributesSetSigdefault(made, Buffer.alloc(signalSetBytes, 0xff));
  sys.spawnAttributesSetSigmask(made, Buffer.alloc(signalSetBytes));
  sys.spawnAttributesSetFlags(made, defaultSignals | signalMask | ownSession);
  return made;
}

/** C ends a string at its first NUL: what follows would be dropped without a word. */
function requireNoNul(strings: readonly string[]): void {
  const bad = strings.find(string => string.includes('\0'));
  if (bad !== undefined) throw new TypeError(`an argument or variable holds a NUL: ${JSON.stringify(bad)}`);
}
