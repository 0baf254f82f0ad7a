// conmon, one beside each application container: it creates the container with the OCI runtime, holds its stdio and
// terminal, writes its log in CRI format, and when it ends leaves the exit code in a file. It outlives the daemon.
// The protocol over its pipes is containers/conmon's: a JSON line on the descriptor that _OCI_SYNCPIPE names.
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { CriError, codeOf, messageOf } from '../errors.ts';
import { defaultPath } from '../host/executables.ts';
import { helperEnvironment } from '../host/helpers.ts';
import { closeChildEnds, type PipeOut, pipeOutOfChild } from '../host/pipe.ts';
import { killGroup } from '../host/process.ts';
import { killTree } from '../host/process-tree.ts';
import { identify, type ProcessIdentity } from '../host/process-watch.ts';
import { spawnChild } from '../host/spawn.ts';
import { endOf } from '../host/wait.ts';
import { criuError, lastLogError, type OciRuntime, wantOfRoom } from './runtime.ts';

export interface MonitoredContainer {
  id: string;
  bundle: string;
  /** File for the container's output in CRI log format; undefined = output is dropped. */
  logPath: string | undefined;
  terminal: boolean;
  stdin: boolean;
  /** The first attached client's end of input ends the container's input. */
  stdinOnce: boolean;
  /** Instead of starting its program, its processes are restored from criu's images. */
  restore?: { imagePath: string; criuDirectory: string } | undefined;
}

export interface Monitored {
  monitor: ProcessIdentity;
  /** The container's first process. */
  init: ProcessIdentity;
}

/** How a container ended, as conmon left it. */
export interface ContainerExit {
  /** Exit code, or 128 + signal number. */
  code: number;
  /** Milliseconds since the epoch. */
  at: number;
  /** The kernel's OOM killer ended a process of it. */
  oomKilled: boolean;
}

export interface Conmon {
  /**
   * Starts a conmon that creates the container. Resolves when the container is created (its program not yet run).
   * @throws CriError runtimeFailed with the runtime's own words
   */
  create(container: MonitoredContainer, runtime: OciRuntime, signal: AbortSignal): Promise<Monitored>;
  /** What conmon recorded at the container's end; undefined while it runs, or when conmon was killed before. */
  exit(id: string, bundle: string): ContainerExit | undefined;
  /**
   * Makes conmon close the log and open `logPath` anew; resolves when the file is there. A log that was not moved away
   * is left as it is. @throws CriError
   */
  reopenLog(monitor: ProcessIdentity, bundle: string, logPath: string): Promise<void>;
  /** The exit file, for removal with the container. */
  exitFile(id: string): string;
}

// Since API version 1 the pid stands in `data`; what went wrong in `message`, with a negative pid.
const syncMessageSchema = z.object({ data: z.number().int(), message: z.string().optional() });

export interface ConmonOptions {
  binary: string;
  /** Directory of exit files, one a container, named by its id. */
  exitDir: string;
}

export function createConmon({ binary, exitDir }: ConmonOptions): Conmon {
  function conmonArguments(container: MonitoredContainer, runtime: OciRuntime): string[] {
    const { id, bundle } = container;
    const runtimeArguments = [
      ...runtime.globalArguments,
      '--log',
      join(bundle, 'runtime.log'),
      '--log-format',
      'json',
    ];
    return [
      ...['--api-version', '1', '--sync', '--full-attach', '--no-sync-log', '--log-level', 'error'],
      ...['--cid', id, '--cuuid', id, '--name', id],
      ...[
        '--runtime',
        runtime.options.binary,
        ...runtimeArguments.map(argument => `--runtime-arg=${argument}`),
      ],
      ...(runtime.options.systemdCgroup ? ['--systemd-cgroup'] : []),
      ...['--bundle', bundle, '--container-pidfile', join(bundle, 'pid')],
      ...['--exit-dir', exitDir, '--persist-dir', bundle],
      ...['--log-path', container.logPath === undefined ? 'off' : `k8s-file:${container.logPath}`],
      ...(container.restore === undefined ? [] : ['--restore', container.restore.imagePath]),
      ...(container.terminal ? ['--terminal'] : []),
      ...(container.stdin ? ['--stdin'] : []),
      ...(container.stdin && !container.stdinOnce ? ['--leave-stdin-open'] : []),
    ];
  }

  /** `sync` is where it tells of the container. */
  async function startConmon(
    container: MonitoredContainer,
    runtime: OciRuntime,
  ): Promise<{ pid: number; sync: Readable }> {
    const stderr = openSync(join(container.bundle, 'conmon.log'), 'a', 0o600);
    let sync: PipeOut | undefined;
    try {
      sync = pipeOutOfChild();
      const pid = await spawnChild({
        file: binary,
        args: conmonArguments(container, runtime),
        cwd: container.bundle,
        env: { PATH: pathFor(container), _OCI_SYNCPIPE: '3', ...helperEnvironment() },
        stdio: [undefined, undefined, stderr, sync.childFd],
      });
      return { pid, sync: sync.stream };
    } catch (error) {
      sync?.stream.destroy();
      throw new CriError('runtimeFailed', `conmon (${binary}) could not be started: ${messageOf(error)}`);
    } finally {
      closeSync(stderr);
      closeChildEnds([sync]);
    }
  }

  return {
    async create(container, runtime, signal) {
      const conmon = await startConmon(container, runtime);
      try {
        const pid = await createdPid(conmon.sync, container, signal);
        const [monitor, init] = [identify(conmon.pid), identify(pid)];
        if (!monitor || !init)
          throw new CriError('runtimeFailed', `container ${container.id} ended while it was being created`);
        return { monitor, init };
      } catch (error) {
        await killed(conmon.pid);
        throw error;
      } finally {
        conmon.sync.destroy();
      }
    },
    exit(id, bundle) {
      const file = join(exitDir, id);
      try {
        return {
          code: Number(readFileSync(file, 'latin1')),
          at: statSync(file).mtimeMs,
          oomKilled: wasOomKilled(bundle),
        };
      } catch (error) {
        if (codeOf(error) === 'ENOENT') return undefined;
        throw error;
      }
    },
    exitFile: id => join(exitDir, id),
    async reopenLog(monitor, bundle, logPath) {
      if (hasOpen(monitor.pid, logPath)) return; // conmon would replace it by an empty file
      requireCreatable(logPath);
      const appeared = existsSync(logPath) ? Promise.resolve() : appears(logPath);
      tellConmon(bundle, reopenLogs);
      await appeared;
    },
  };
}

/** The container of a conmon with this command line; undefined when it is another program's. */
export function monitoredContainer(args: readonly string[]): string | undefined {
  const at = args.indexOf('--cid');
  return at < 0 ? undefined : args[at + 1];
}

/** The runtime, which conmon starts, looks for criu there. */
function pathFor({ restore }: MonitoredContainer): string {
  return restore === undefined ? defaultPath : `${restore.criuDirectory}:${defaultPath}`;
}

/** Kills a conmon with the runtime that it has started, and waits for its end: what is undone next must find no one at it. */
async function killed(pid: number): Promise<void> {
  try {
    const process = identify(pid);
    if (process) killTree(process);
  } catch {
    killGroup(pid); // nobody can be looked up, for want of descriptors say; it is our child, so the number is its own
  }
  await endOf(pid);
}

// Messages on conmon's control fifo are `TYPE HEIGHT WIDTH`: 1 resizes the terminal, 2 reopens the log.
const reopenLogs = '2 0 0\n';

/** Writes to the fifo `ctl` in the bundle, without waiting for a conmon that does not read. @throws ENXIO without a conmon, EAGAIN when the fifo is full */
export function tellConmon(bundle: string, message: string): void {
  const fd = openSync(join(bundle, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    writeSync(fd, message);
  } finally {
    closeSync(fd);
  }
}

/** A conmon that cannot open its log ends, and its container with it; so its first act is tried out before. */
function requireCreatable(logPath: string): void {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  try {
    // conmon makes this one, and gives it the log's name
    closeSync(openSync(`${logPath}.tmp`, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o640));
  } catch (error) {
    throw new CriError('internal', `the log ${logPath} cannot be opened anew: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Whether the file of this name is one that the process has open. */
function hasOpen(pid: number, path: string): boolean {
  const file = statSync(path, { throwIfNoEntry: false });
  if (!file) return false;
  return readdirSync(`/proc/${pid}/fd`).some(fd => {
    const open = statSync(`/proc/${pid}/fd/${fd}`, { throwIfNoEntry: false });
    return open?.ino === file.ino && open.dev === file.dev;
  });
}

const reopenMs = 5000;
const reopenPollMs = 5;

/** Resolves when the file comes to be. Looked for, and not watched: on a busy node inotify may have no watches left. */
async function appears(path: string): Promise<void> {
  const giveUp = performance.now() + reopenMs;
  while (!existsSync(path)) {
    if (performance.now() > giveUp) {
      throw new CriError('internal', `conmon did not reopen the log ${path} within ${reopenMs} ms`);
    }
    await sleep(reopenPollMs);
  }
}

/** Waits for conmon's one line: the pid of the created container, or -1 and why there is none. */
async function createdPid(
  sync: Readable,
  { id, bundle, logPath, restore }: MonitoredContainer,
  signal: AbortSignal,
): Promise<number> {
  const failed = (why: string) => {
    const words = lastLogError(join(bundle, 'runtime.log')) ?? why;
    const criu = restore && criuError(join(bundle, 'restore.log'), { stderr: words });
    const verb = restore ? 'restored' : 'created';
    return new CriError(
      'runtimeFailed',
      `container ${id} could not be ${verb}: ${criu ?? words}${wantOfRoom(bundle)}`,
    );
  };
  const line = await firstLine(sync, signal).catch(error => {
    throw failed(messageOf(error));
  });
  if (line === undefined)
    throw failed(`conmon ended before (its log: ${logPath ?? 'none'}): ${conmonLog(bundle)}`);
  const message = syncMessageSchema.parse(JSON.parse(line));
  if (message.data <= 0) throw failed(message.message?.trim() || 'the OCI runtime gave no reason');
  return message.data;
}

function conmonLog(bundle: string): string {
  return readFileSync(join(bundle, 'conmon.log'), 'utf8').trim() || 'it gave no reason';
}

function firstLine(stream: Readable, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let text = '';
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
    });
    stream.once('end', () => resolve(text === '' ? undefined : text));
    stream.once('error', reject);
    stream.once('close', () => signal.removeEventListener('abort', onAbort));
  });
}

/** conmon makes an empty file `oom` in the bundle and in the persist directory when the kernel tells it of one. */
function wasOomKilled(bundle: string): boolean {
  try {
    statSync(join(bundle, 'oom'));
    return true;
  } catch {
    return false;
  }
}
