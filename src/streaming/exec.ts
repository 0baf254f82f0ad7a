// Exec: a command in a running container, its stdio joined with the client's streams by pipes, or by a terminal.
import { closeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { makeDirectories } from '../host/directories.ts';
import { openFdStream } from '../host/fd-stream.ts';
import type { OrphanReaper } from '../host/orphans.ts';
import { closeChildEnds, makePipes, pipeIntoChild, pipeOutOfChild } from '../host/pipe.ts';
import { killTree } from '../host/process-tree.ts';
import type { ProcessIdentity, ProcessWatch } from '../host/process-watch.ts';
import { resizeTerminal, type TerminalSize } from '../host/pty.ts';
import type { Readiness } from '../host/readiness.ts';
import { awaitDescriptor } from '../host/unix-socket.ts';
import type { Logger } from '../log.ts';
import { startCommand } from '../oci/exec.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import { copy, discard } from './copy.ts';
import { followSizes } from './follow-sizes.ts';
import type { RemoteStreams } from './remote-command/streams.ts';
import type { ExecBackend, ExecRequest } from './requests.ts';

/** A running container, as a command needs it. */
export interface ExecTarget {
  readonly id: string;
  readonly bundle: string;
  readonly runtime: OciRuntime;
}

export interface ExecParts {
  /** Directory for the sockets over which terminals come; its path must be short (a socket's path is 107 bytes at most). */
  readonly socketDir: string;
  readonly orphans: OrphanReaper;
  readonly watch: ProcessWatch;
  readonly readiness: Readiness;
  /** How long other processes may hold the output open after the command ended; undefined = for ever. */
  readonly drainMs: number | undefined;
  readonly log: Logger;
  /** @throws CriError notFound, or wrongState when it does not run */
  target(containerId: string): ExecTarget;
}

/** A command that runs, its streams joined with the client's. */
interface Running {
  readonly process: ProcessIdentity;
  /** Resolves when all output was handed to the client. */
  readonly output: Promise<unknown>;
  /** Gives up what is left of the streams. */
  close(): void;
}

export function createExecBackend(parts: ExecParts): ExecBackend {
  return {
    async exec(request, streams) {
      const target = parts.target(request.containerId);
      const running = await (request.tty ? startWithTerminal : startWithPipes)(
        request,
        target,
        streams,
        parts,
      );
      const kill = () => killTree(running.process);
      streams.signal.addEventListener('abort', kill, { once: true });
      if (streams.signal.aborted) kill();
      try {
        const status = await new Promise<number | undefined>(
          resolve => void parts.watch.watch(running.process, resolve),
        );
        if (streams.stdin) discard(streams.stdin); // nobody reads it any more, and it must hold up nothing behind it
        await drained(running.output, parts.drainMs, streams.signal);
        return status ?? -1;
      } finally {
        streams.signal.removeEventListener('abort', kill);
        running.close();
      }
    },
  };
}

async function startWithPipes(
  { command }: ExecRequest,
  { id, bundle, runtime }: ExecTarget,
  { stdin, stdout, stderr, signal }: RemoteStreams,
  { orphans }: ExecParts,
): Promise<Running> {
  const [input, output, errors] = makePipes([
    stdin && pipeIntoChild,
    stdout && pipeOutOfChild,
    stderr && pipeOutOfChild,
  ]);
  const close = () => {
    for (const pipe of [input, output, errors]) pipe?.stream.destroy();
  };
  try {
    const process = await startCommand(
      {
        containerId: id,
        bundle,
        command,
        stdio: [input?.childFd, output?.childFd, errors?.childFd],
      },
      { runtime, orphans },
      signal,
    );
    if (stdin && input) feed(stdin, input.stream);
    const copies = [
      stdout && output && copy(output.stream, stdout),
      stderr && errors && copy(errors.stream, stderr),
    ];
    return { process, output: Promise.allSettled(copies), close };
  } catch (error) {
    close();
    throw error;
  } finally {
    closeChildEnds([input, output, errors]);
  }
}

const terminalReadBytes = 16 * 1024;

async function startWithTerminal(
  { command }: ExecRequest,
  { id, bundle, runtime }: ExecTarget,
  { stdin, stdout, sizes, signal }: RemoteStreams,
  { socketDir, orphans, readiness, log }: ExecParts,
): Promise<Running> {
  await makeDirectories(socketDir, 0o700);
  const directory = await mkdtemp(join(socketDir, 't'));
  const consoleSocket = join(directory, 's');
  const inbox = awaitDescriptor(consoleSocket, readiness);
  try {
    const process = await startCommand(
      { containerId: id, bundle, command, stdio: [undefined, undefined, undefined], consoleSocket },
      { runtime, orphans },
      signal,
    );
    // The runtime has sent the terminal before it lets the command run.
    const fd = await inbox.received;
    const terminal = openFdStream(fd, readiness, {
      what: `the terminal of a command in container ${id}`,
      readBytes: terminalReadBytes,
    });
    terminal.on('error', () => {}); // its end is the command's, which is waited for
    const set = (size: TerminalSize) => {
      if (!terminal.destroyed) resizeTerminal(fd, size); // the number may be another's afterwards
    };
    void followSizes({ sizes, set, containerId: id, log });
    if (stdin) feed(stdin, terminal);
    const output = stdout ? copy(terminal, stdout) : readAway(terminal);
    return { process, output: Promise.allSettled([output]), close: () => terminal.destroy() };
  } catch (error) {
    inbox.received.then(closeSync, () => {});
    throw error;
  } finally {
    inbox.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** The client's input to the command; a command that closes its input just gets no more. */
function feed(stdin: Readable, into: Parameters<typeof copy>[1]): void {
  copy(stdin, into).catch(() => {
    into.destroy();
    discard(stdin);
  });
}

function readAway(stream: Readable): Promise<void> {
  stream.resume();
  return new Promise(resolve => stream.once('close', resolve).once('end', resolve));
}

/** Waits for the last output, until nobody is there to take it, or until the time is over. */
async function drained(
  output: Promise<unknown>,
  drainMs: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const ends = new Promise<void>(resolve => {
    if (drainMs !== undefined) timer = setTimeout(resolve, drainMs);
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (signal.aborted) resolve();
  });
  await Promise.race([output, ends]);
  clearTimeout(timer);
}
