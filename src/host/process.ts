// Runs a host executable to its end: the one place where the daemon starts short-lived children
// (runc, CNI plugins, mount helpers). Never through a shell; environment given whole; output bounded.
// A pod costs a dozen children, and their fixed cost is the daemon's own: src/host/spawn.ts keeps it small.
import type { Readable } from 'node:stream';
import { codeOf, messageOf } from '../errors.ts';
import { defaultPath } from './executables.ts';
import { helperEnvironment } from './helpers.ts';
import { closeChildEnds, type PipeIn, pipeIntoChild, pipeOutOfChild } from './pipe.ts';
import { spawnChild } from './spawn.ts';
import { endOf } from './wait.ts';

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

const defaultMaxOutput = 1024 * 1024;
/** How long output may stay open after the child has ended: a process it left behind may hold the pipe for ever. */
const strayOutputMs = 1000;

/** Runs `file` with `args` and waits for its end. Does not throw for any way the child may end. */
export async function run(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  if (options.signal?.aborted) return ended(file, options, { failure: 'cancelled' });
  let child: Child;
  try {
    child = await start(file, args, options);
  } catch (thrown) {
    return ended(file, options, { failure: 'not-started', startFailure: thrown });
  }
  const { pid, stdin, outputs } = child;
  let failure: RunResult['failure'];
  let hasEnded = false;
  const killFor = (reason: NonNullable<RunResult['failure']>): void => {
    if (hasEnded) return; // its own end stands, and its number may belong to another
    failure ??= reason;
    killGroup(pid);
  };
  const stdout = collect(outputs[0], options.maxOutputBytes ?? defaultMaxOutput, () => {
    if (options.excessOutput !== 'drop') killFor('too-much-output');
  });
  const stderr = collect(outputs[1], options.maxErrorBytes ?? defaultMaxOutput, 'keep-tail');
  const closed = outputs.map(output => new Promise<void>(resolve => output.once('close', resolve)));
  const timer =
    options.timeoutMs === undefined ? undefined : setTimeout(killFor, options.timeoutMs, 'timed-out');
  const onAbort = (): void => killFor('cancelled');
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (options.signal?.aborted) onAbort(); // while it was being started
  // A child may end without reading its input; how it ended tells more than the broken pipe.
  stdin?.on('error', () => {});
  stdin?.end(options.input ?? '');

  const { exitCode, signal } = await endOf(pid);
  hasEnded = true;
  clearTimeout(timer);
  options.signal?.removeEventListener('abort', onAbort);
  stdin?.destroy();
  const keep = giveUpLater(outputs, strayOutputMs);
  await Promise.all(closed);
  keep();
  return ended(file, options, { failure, stdout: stdout(), stderr: stderr(), exitCode, signal });
}

interface Child {
  pid: number;
  stdin: PipeIn['stream'] | undefined;
  /** Standard output and error output; empty when they are ignored. */
  outputs: readonly Readable[];
}

/** @throws HostError when there is no such program, or no descriptors are left */
async function start(file: string, args: readonly string[], options: RunOptions): Promise<Child> {
  const pipes: PipeIn[] = [];
  const add = (pipe: PipeIn): PipeIn => {
    pipes.push(pipe);
    return pipe;
  };
  try {
    const stdin = options.input === undefined ? undefined : add(pipeIntoChild());
    const outputs = options.output === 'ignore' ? [] : [add(pipeOutOfChild()), add(pipeOutOfChild())];
    const pid = await spawnChild({
      file,
      args,
      env: { ...(options.env ?? { PATH: defaultPath }), ...helperEnvironment() },
      cwd: options.cwd,
      stdio: [stdin?.childFd, outputs[0]?.childFd, outputs[1]?.childFd],
    });
    return { pid, stdin: stdin?.stream, outputs: outputs.map(({ stream }) => stream) };
  } catch (thrown) {
    for (const { stream } of pipes) stream.destroy();
    throw thrown;
  } finally {
    closeChildEnds(pipes);
  }
}

/** Kills what a child of ours has started with it: every child leads a group of its own. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // all of it has ended, and is about to be told of
  }
}

/**
 * Gives the outputs up after so long. An event loop that was held up finds its timers due before it looks for what has come
 * meanwhile, so it is let look first. The returned function stops that.
 */
function giveUpLater(outputs: readonly Readable[], ms: number): () => void {
  const timer = setTimeout(() => {
    setImmediate(() => {
      for (const output of outputs) output.destroy();
    });
  }, ms);
  return () => clearTimeout(timer);
}

/** Gathers a stream up to `limit` bytes: beyond it calls `overflow` once, or keeps the tail. Returns the text so far. */
function collect(
  stream: Readable | undefined,
  limit: number,
  overflow: (() => void) | 'keep-tail',
): () => string {
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
