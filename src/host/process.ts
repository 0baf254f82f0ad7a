// Runs a host executable to its end: the one place where the daemon starts short-lived children
// (runc, CNI plugins, mount helpers). Never through a shell; environment given whole; output bounded.
// It stands directly on node:child_process because a pod costs a dozen children and their fixed cost is the
// daemon's own: a general-purpose wrapper took 2 ms of CPU more for each.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { codeOf, messageOf } from '../errors.ts';
import { helperEnvironment } from './helpers.ts';

export interface RunOptions {
  /** The whole environment of the child, but for the mark of helpers; nothing is inherited. Default: PATH only. */
  env?: Readonly<Record<string, string>>;
  /** Written to the child's standard input, which is then closed. Default: nothing. */
  input?: string | Uint8Array;
  cwd?: string;
  /** Milliseconds until the child and its process group are killed with SIGKILL. Default: no bound. */
  timeoutMs?: number;
  /** Ends the child and its process group with SIGKILL when aborted. */
  signal?: AbortSignal;
  /**
   * `ignore`: the child's output goes nowhere and the run ends with the child itself, also when a process it
   * leaves behind (a container) keeps its descriptors. Default: collected.
   */
  output?: 'collect' | 'ignore';
  /** Bytes of stdout kept; a child that writes more is killed, unless `excessOutput` says otherwise. Default 1 MiB. */
  maxOutputBytes?: number;
  /** `drop`: what a child writes beyond `maxOutputBytes` is read and forgotten. */
  excessOutput?: 'kill' | 'drop';
  /** Bytes of the end of stderr kept; what came before is dropped, for logs must not kill. Default 1 MiB. */
  maxErrorBytes?: number;
}

export interface RunResult {
  /** Exit code; undefined when the child did not start or was ended by a signal. */
  exitCode: number | undefined;
  /** Name of the signal that ended the child, such as SIGKILL. */
  signal: string | undefined;
  stdout: string;
  stderr: string;
  /** Why the run ended early, when it was not the child's own doing. */
  failure: 'not-started' | 'timed-out' | 'cancelled' | 'too-much-output' | undefined;
  /** System error code of a child that did not start: ENOENT, EACCES, ETXTBSY, ... */
  startError: string | undefined;
  /** A sentence for logs and errors: how the child ended. */
  outcome: string;
}

export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** The absolute path of an executable, looked up on the default PATH as a shell would; as it stands when it is not there. */
export function findExecutable(name: string): string {
  if (name.includes('/')) return name;
  for (const directory of defaultPath.split(':')) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not there
    }
  }
  return name;
}

const defaultMaxOutput = 1024 * 1024;
/** How long output may stay open after the child has ended: a process it left behind may hold the pipe for ever. */
const strayOutputMs = 1000;

/** Runs `file` with `args` and waits for its end. Does not throw for any way the child may end. */
export function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  if (options.signal?.aborted) return Promise.resolve(ended(file, options, { failure: 'cancelled' }));
  return new Promise(resolve => {
    let child: ChildProcess;
    try {
      child = spawn(file, args, spawnOptions(options));
    } catch (thrown) {
      resolve(ended(file, options, { failure: 'not-started', startFailure: thrown }));
      return;
    }
    let failure: RunResult['failure'];
    const killFor = (reason: NonNullable<RunResult['failure']>): void => {
      // Once it is reaped its own end stands, and its number may belong to another.
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      failure ??= reason;
      killGroup(child, child.pid);
    };
    const stdout = collect(child.stdout, options.maxOutputBytes ?? defaultMaxOutput, () => {
      if (options.excessOutput !== 'drop') killFor('too-much-output');
    });
    const stderr = collect(child.stderr, options.maxErrorBytes ?? defaultMaxOutput, 'keep-tail');
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(killFor, options.timeoutMs, 'timed-out');
    const onAbort = (): void => killFor('cancelled');
    options.signal?.addEventListener('abort', onAbort, { once: true });
    let stray: NodeJS.Timeout | undefined;
    const finish = (end: Partial<End>): void => {
      clearTimeout(timer);
      clearTimeout(stray);
      options.signal?.removeEventListener('abort', onAbort);
      resolve(ended(file, options, { failure, stdout: stdout(), stderr: stderr(), ...end }));
    };
    child.once('error', thrown => {
      if (child.pid === undefined) finish({ failure: 'not-started', startFailure: thrown });
    });
    child.once('exit', () => {
      clearTimeout(timer);
      stray = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, strayOutputMs);
    });
    child.once('close', (exitCode, signal) => {
      if (child.pid !== undefined) finish({ exitCode: exitCode ?? undefined, signal: signal ?? undefined });
    });
    // A child may end without reading its input; how it ended tells more than the broken pipe.
    child.stdin?.on('error', () => {});
    if (options.input !== undefined) child.stdin?.end(options.input);
  });
}

function spawnOptions(options: RunOptions): SpawnOptions {
  const output = options.output === 'ignore' ? 'ignore' : 'pipe';
  return {
    env: { ...(options.env ?? { PATH: defaultPath }), ...helperEnvironment() },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', output, output],
    // A session of its own: a signal to the foreground daemon does not reach it, and its own children,
    // which may hold its output open, are killed with it.
    detached: true,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  };
}

function killGroup(child: ChildProcess, pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}

/** Gathers a stream up to `limit` bytes: beyond it calls `overflow` once, or keeps the tail. Returns the text so far. */
function collect(stream: Readable | null, limit: number, overflow: (() => void) | 'keep-tail'): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on('error', () => {});
  stream?.on('data', (chunk: Buffer) => {
    if (overflow !== 'keep-tail' && size + chunk.length > limit) {
      if (size < limit) chunks.push(chunk.subarray(0, limit - size));
      size = limit;
      overflow();
      return;
    }
    chunks.push(chunk);
    size += chunk.length;
    while (size - (chunks[0]?.length ?? size) >= limit) size -= chunks.shift()?.length ?? 0;
  });
  return () => {
    const whole = Buffer.concat(chunks);
    return whole.subarray(Math.max(0, whole.length - limit)).toString('utf8');
  };
}

interface End {
  exitCode: number | undefined;
  signal: string | undefined;
  stdout: string;
  stderr: string;
  failure: RunResult['failure'];
  startFailure: unknown;
}

function ended(file: string, options: RunOptions, end: Partial<End>): RunResult {
  return {
    exitCode: end.exitCode,
    signal: end.signal,
    stdout: end.stdout ?? '',
    stderr: end.stderr ?? '',
    failure: end.failure,
    startError: end.failure === 'not-started' ? codeOf(end.startFailure) : undefined,
    outcome: outcomeOf(file, end, options),
  };
}

function outcomeOf(file: string, end: Partial<End>, options: RunOptions): string {
  switch (end.failure) {
    case 'timed-out':
      return `${file} was killed after ${options.timeoutMs} ms without finishing`;
    case 'cancelled':
      return `${file} was killed because the request was cancelled`;
    case 'too-much-output':
      return `${file} was killed because it wrote more than ${options.maxOutputBytes ?? defaultMaxOutput} bytes`;
    case 'not-started':
      return `${file} could not be started: ${messageOf(end.startFailure)}`;
    case undefined:
      if (end.signal !== undefined) return `${file} was ended by ${end.signal}`;
      return `${file} exited with code ${end.exitCode}`;
  }
}
