// Starts one command in a running container, by the runtime's `exec --detach`: the command is left as our orphan (we are
// a subreaper) with the descriptors that we gave it as its stdio, so no process of ours stands beside it while it runs.
import { existsSync, fchownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kill } from 'node:process';
import { z } from 'zod';
import { CriError } from '../errors.ts';
import { defaultPath } from '../host/executables.ts';
import type { OrphanReaper } from '../host/orphans.ts';
import { killTree } from '../host/process-tree.ts';
import { identify, identifyEnded, type ProcessIdentity } from '../host/process-watch.ts';
import { type SpawnRequest, spawnChild } from '../host/spawn.ts';
import { hostId } from '../host/userns.ts';
import { endOf } from '../host/wait.ts';
import { commandDirectoryPrefix } from './exec-leftovers.ts';
import { lastLogError, type OciRuntime } from './runtime.ts';

export interface CommandToStart {
  readonly containerId: string;
  readonly bundle: string;
  readonly command: readonly string[];
  /** Standard input, output and error: descriptors that are the command's from now on; undefined = /dev/null. */
  readonly stdio: readonly [number | undefined, number | undefined, number | undefined];
  /** The command gets a terminal, whose master the runtime sends to this unix socket; stdio is unused then. */
  readonly consoleSocket?: string;
}

const processSchema = z.looseObject({
  env: z.array(z.string()).default([]),
  user: z.looseObject({ uid: z.number().default(0), gid: z.number().default(0) }).prefault({}),
});
const rangesSchema = z
  .array(z.object({ containerID: z.number(), hostID: z.number(), size: z.number() }))
  .optional();
const specSchema = z.looseObject({
  process: processSchema,
  linux: z.looseObject({ uidMappings: rangesSchema, gidMappings: rangesSchema }).prefault({}),
});
type ContainerSpec = z.infer<typeof specSchema>;

/**
 * Starts the command with the user, environment, limits and profile of the container's own process. Begin to watch the
 * returned process at once: its exit status is for us to take.
 * @throws CriError runtimeFailed with the runtime's own words; cancelled
 */
export async function startCommand(
  wanted: CommandToStart,
  { runtime, orphans }: { runtime: OciRuntime; orphans: OrphanReaper },
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  const directory = mkdtempSync(join(wanted.bundle, commandDirectoryPrefix));
  try {
    return await orphans.hold(() => startIn(directory, wanted, runtime, signal));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function startIn(
  directory: string,
  wanted: CommandToStart,
  runtime: OciRuntime,
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  const { containerId, command, stdio, consoleSocket } = wanted;
  const [processFile, pidFile, log] = ['process.json', 'pid', 'log'].map(name => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const spec = specSchema.parse(JSON.parse(readFileSync(join(wanted.bundle, 'config.json'), 'utf8')));
  writeFileSync(processFile, JSON.stringify(processSpec(spec, wanted)), { mode: 0o600 });
  giveAway(stdio, spec);
  const args = [
    ...runtime.globalArguments,
    ...['--log', log, '--log-format', 'json', 'exec', '--detach'],
    ...['--process', processFile, '--pid-file', pidFile],
    ...(consoleSocket === undefined ? [] : ['--console-socket', consoleSocket]),
    containerId,
  ];
  const ended = await untilEnded(
    { file: runtime.options.binary, args, env: { PATH: defaultPath }, stdio },
    signal,
  );
  // A runtime that was ended may have started the command all the same.
  const process = existsSync(pidFile) ? identifyEnded(Number(readFileSync(pidFile, 'latin1'))) : undefined;
  if (process && ended === '' && !signal.aborted) return process;
  if (process) killTree(process);
  const why =
    ended instanceof Error
      ? ended.message
      : (lastLogError(log) ??
        `the OCI runtime gave no reason; ${ended || 'the process that it started was gone at once'}`);
  const words = `command ${JSON.stringify(command)} could not be run in container ${containerId}: ${why}`;
  throw new CriError(signal.aborted ? 'cancelled' : 'runtimeFailed', words);
}

/** Runs the runtime; returns what was wrong with its end, in words, or why it was not started. */
async function untilEnded(request: SpawnRequest, signal: AbortSignal): Promise<string | Error> {
  let pid: number;
  try {
    pid = await spawnChild(request);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
  const onAbort = () => killRuntime(pid);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const end = await endOf(pid);
  signal.removeEventListener('abort', onAbort);
  if (end.signal !== undefined) return `it was ended by ${end.signal}`;
  return end.exitCode === 0 ? '' : `it exited with code ${end.exitCode}`;
}

/** With the command, of which only the runtime knows until it has written the pid file. */
function killRuntime(pid: number): void {
  try {
    const runtime = identify(pid);
    if (runtime) killTree(runtime);
  } catch {
    kill(pid, 'SIGKILL'); // it cannot be looked up, for want of descriptors say; it is our child, so the number is its own
  }
}

/** Programs open /dev/stdout by name. In a user namespace the runtime cannot give them what belongs to the node's root. */
function giveAway(stdio: CommandToStart['stdio'], { process: { user }, linux }: ContainerSpec): void {
  const uid = linux.uidMappings && hostId(linux.uidMappings, user.uid);
  const gid = linux.gidMappings && hostId(linux.gidMappings, user.gid);
  if (uid === undefined || gid === undefined) return;
  for (const fd of stdio) if (fd !== undefined) fchownSync(fd, uid, gid);
}

/** The container's own process with another command. */
function processSpec(spec: ContainerSpec, { command, consoleSocket }: CommandToStart): unknown {
  const terminal = consoleSocket !== undefined;
  const { env } = spec.process;
  const hasTerm = env.some(variable => variable.startsWith('TERM='));
  return {
    ...spec.process,
    args: command,
    terminal,
    // What docker and containerd tell programs of the terminal that they get.
    env: terminal && !hasTerm ? [...env, 'TERM=xterm'] : env,
  };
}
