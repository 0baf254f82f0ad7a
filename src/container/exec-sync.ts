// ExecSync: one command in a running container, its output collected, its whole process tree ended at the timeout.
import type { Readable } from 'node:stream';
import { CriError } from '../errors.ts';
import type { OrphanReaper } from '../host/orphans.ts';
import { closeChildEnds, makePipes, pipeOutOfChild } from '../host/pipe.ts';
import { killTree } from '../host/process-tree.ts';
import type { ProcessIdentity, ProcessWatch } from '../host/process-watch.ts';
import { startCommand } from '../oci/exec.ts';
import type { OciRuntime } from '../oci/runtime.ts';

export interface ExecSyncRequest {
  containerId: string;
  bundle: string;
  command: readonly string[];
  /** Milliseconds; 0 = no bound. */
  timeoutMs: number;
  /** How long other processes may hold the output open after the command ended; undefined = until the timeout. */
  drainMs: number | undefined;
  /** Bytes kept of both streams together; what is beyond is dropped, and the command goes on. */
  maxOutputBytes: number;
}

export interface ExecSyncResult {
  stdout: Buffer;
  stderr: Buffer;
  exitCode: number;
}

/** The contract's bound of the output, and kubelet's of a whole message. */
const maxMessageBytes = 16 * 1024 * 1024;
/** An answer's bytes besides the output: lengths, the exit code. */
const framingBytes = 1024;

/** How much output goes into an answer that may be `maxSendBytes` long: one that is too long would not be sent at all. */
export function outputRoom(maxSendBytes: number): number {
  return Math.max(0, Math.min(maxSendBytes, maxMessageBytes) - framingBytes);
}

/** What runs it. */
export interface ExecHost {
  runtime: OciRuntime;
  watch: ProcessWatch;
  orphans: OrphanReaper;
}

/**
 * Runs the command to its end.
 * @throws CriError deadlineExceeded when it did not end in time; runtimeFailed when it could not be started
 */
export async function execSync(
  request: ExecSyncRequest,
  host: ExecHost,
  signal: AbortSignal,
): Promise<ExecSyncResult> {
  const { containerId, bundle, command, timeoutMs } = request;
  const timeout = timeoutMs > 0 ? AbortSignal.timeout(timeoutMs) : undefined;
  const givenUp = timeout ? AbortSignal.any([signal, timeout]) : signal;
  const pipes = makePipes([pipeOutOfChild, pipeOutOfChild]);
  const room = { bytes: request.maxOutputBytes };
  const output = [collect(pipes[0].stream, room), collect(pipes[1].stream, room)] as const;
  try {
    const stdio = [undefined, pipes[0].childFd, pipes[1].childFd] as const;
    const process = await startCommand({ containerId, bundle, command, stdio }, host, givenUp)
      .catch(error => {
        throw timeout?.aborted ? timedOut(request) : error;
      })
      .finally(() => closeChildEnds(pipes));
    const exitCode = await untilEnded(process, host.watch, givenUp);
    if (exitCode === 'given up') throw signal.aborted ? callerGone(request) : timedOut(request);
    await drained(output, request.drainMs, givenUp);
    if (signal.aborted) throw callerGone(request);
    return { stdout: output[0].bytes(), stderr: output[1].bytes(), exitCode };
  } finally {
    for (const { stream } of pipes) stream.destroy();
  }
}

function timedOut({ containerId, command, timeoutMs }: ExecSyncRequest): CriError {
  const words = `command ${JSON.stringify(command)} in container ${containerId} timed out: it ran longer than ${timeoutMs} ms and was killed`;
  return new CriError('deadlineExceeded', words);
}

function callerGone({ containerId }: ExecSyncRequest): CriError {
  const words = `the command in container ${containerId} was ended because its caller went away`;
  return new CriError('cancelled', words);
}

/** The command's exit code; when `signal` aborts, the command is killed with all it started. */
async function untilEnded(
  process: ProcessIdentity,
  watch: ProcessWatch,
  signal: AbortSignal,
): Promise<number | 'given up'> {
  const kill = () => killTree(process);
  const ended = new Promise<number | undefined>(resolve => watch.watch(process, resolve));
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  const status = await ended;
  signal.removeEventListener('abort', kill);
  return signal.aborted ? 'given up' : (status ?? -1);
}

interface Output {
  bytes(): Buffer;
  ended: Promise<void>;
}

/** Keeps what comes while there is room, which both streams share. */
function collect(stream: Readable, room: { bytes: number }): Output {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => {
    const kept = chunk.subarray(0, room.bytes);
    if (kept.length > 0) chunks.push(kept);
    room.bytes -= kept.length;
  });
  const ended = new Promise<void>(resolve => {
    stream.once('end', resolve);
    stream.once('error', () => resolve());
  });
  return { bytes: () => Buffer.concat(chunks), ended };
}

/** Waits for the end of the output, which a child that the command left behind may hold open. */
async function drained(
  outputs: readonly Output[],
  drainMs: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  let [timer, finish] = [undefined as NodeJS.Timeout | undefined, () => {}];
  const enough = new Promise<void>(resolve => {
    finish = resolve;
    if (drainMs !== undefined) timer = setTimeout(finish, drainMs);
    signal.addEventListener('abort', finish, { once: true });
    if (signal.aborted) finish();
  });
  await Promise.race([Promise.all(outputs.map(({ ended }) => ended)), enough]);
  clearTimeout(timer);
  signal.removeEventListener('abort', finish);
}
