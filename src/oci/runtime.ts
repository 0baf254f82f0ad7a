// Drives an OCI runtime executable (runc, crun, runsc) as its command line has it (opencontainers/runtime-tools,
// "OCI Runtime Command Line Interface"). Knows bundles and ids; nothing of CRI.
import { readFileSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CriError, codeOf } from '../errors.ts';
import type { CgroupLayout } from '../host/cgroup/layout.ts';
import { pathOfCgroupsPath } from '../host/cgroup/paths.ts';
import { removeCgroup } from '../host/cgroup/remove.ts';
import { nearlyFull } from '../host/disk-space.ts';
import { defaultPath } from '../host/executables.ts';
import { type RunResult, run } from '../host/process.ts';
import { identify, type ProcessIdentity } from '../host/process-watch.ts';

/** How one handler's executable is called. */
export interface RuntimeOptions {
  /** Absolute path, or a name to be found on PATH. */
  binary: string;
  /** The runtime's own state directory. */
  root: string;
  systemdCgroup: boolean;
  /** Milliseconds for one call. */
  timeoutMs: number;
  /** Where the cgroups are that it makes. */
  cgroups: CgroupLayout;
}

export const runtimeStates = ['creating', 'created', 'running', 'paused', 'stopped'] as const;
export type RuntimeState = (typeof runtimeStates)[number];

export interface OciRuntime {
  readonly options: RuntimeOptions;
  /** Arguments before the verb, for those who call the executable themselves (conmon). */
  readonly globalArguments: readonly string[];
  /** Creates and starts a container that nobody watches, its output going nowhere; returns its first process. */
  runDetached(id: string, bundle: string, signal: AbortSignal): Promise<ProcessIdentity>;
  /** Lets the process of a created container run the user's program. */
  start(id: string, bundle: string, signal: AbortSignal): Promise<void>;
  /** Sends a signal to the first process, or to all. A container that is gone or stopped is no error. */
  kill(id: string, signalNumber: number, options?: { all?: boolean }): Promise<void>;
  /**
   * Removes what the runtime keeps of the container, killing it when it runs; also what a call that was killed midway
   * has made and forgotten. Idempotent.
   */
  remove(id: string, bundle: string, signal: AbortSignal): Promise<void>;
  /** undefined when the runtime knows no such container. */
  state(id: string): Promise<{ status: RuntimeState; pid: number } | undefined>;
  /** Changes cgroup limits; `resources` is a JSON LinuxResources object of the runtime specification. */
  update(id: string, resources: string): Promise<void>;
  /** Stops every process of the container where it stands. */
  pause(id: string): Promise<void>;
  /** Lets a paused container go on; one that is not paused, or is gone, is no error. */
  resume(id: string): Promise<void>;
  /** Writes the state of a container's processes, which then go on, as criu's images. @throws CriError runtimeFailed */
  checkpoint(id: string, dump: CheckpointRequest, signal: AbortSignal): Promise<void>;
  /** Version text, first line. */
  version(): Promise<string>;
  /** What the runtime can do (`features`, runtime-spec 1.1); a runtime without the command can do neither. */
  features(): Promise<{ recursiveReadOnlyMounts: boolean; userNamespaces: boolean }>;
}

export interface CheckpointRequest {
  /** Directory for criu's images. */
  imagePath: string;
  /** Directory for criu's log. */
  workPath: string;
  /** Directory of the executable `criu`. */
  criuDirectory: string;
}

const stateSchema = z.object({ status: z.enum(runtimeStates), pid: z.number().int().default(0) });

export function createRuntime(options: RuntimeOptions): OciRuntime {
  const globalArguments = ['--root', options.root, ...(options.systemdCgroup ? ['--systemd-cgroup'] : [])];
  // XDG_RUNTIME_DIR and the session bus are for rootless use; a runtime gets a PATH to find its helpers and no more.
  const env = { PATH: defaultPath };

  function call(
    verb: string,
    args: readonly string[],
    extra: {
      signal?: AbortSignal;
      input?: string;
      log?: string;
      ignoreOutput?: boolean;
      env?: Readonly<Record<string, string>>;
      /** For what takes as long as its caller says. */
      unbounded?: boolean;
    } = {},
  ): Promise<RunResult> {
    const logArguments = extra.log ? ['--log', extra.log, '--log-format', 'json'] : [];
    return run(options.binary, [...globalArguments, ...logArguments, verb, ...args], {
      env: extra.env ?? env,
      ...(extra.unbounded ? {} : { timeoutMs: options.timeoutMs }),
      ...(extra.input === undefined ? {} : { input: extra.input }),
      ...(extra.signal ? { signal: extra.signal } : {}),
      ...(extra.ignoreOutput ? { output: 'ignore' as const } : {}),
    });
  }

  return {
    options,
    globalArguments,
    async runDetached(id, bundle, signal) {
      const [log, pidFile] = [join(bundle, 'runtime.log'), join(bundle, 'pid')];
      const result = await call('run', ['--detach', '--bundle', bundle, '--pid-file', pidFile, id], {
        signal,
        log,
        ignoreOutput: true,
      });
      if (result.exitCode !== 0) throw failed('run', id, result, lastLogError(log), bundle);
      return identifyFromFile(pidFile, id);
    },
    async start(id, bundle, signal) {
      const log = join(bundle, 'runtime.log');
      rmSync(log, { force: true });
      const result = await call('start', [id], { signal, log });
      if (result.exitCode !== 0) throw failed('start', id, result, lastLogError(log), bundle);
    },
    async kill(id, signalNumber, { all = false } = {}) {
      const result = await call('kill', [...(all ? ['--all'] : []), id, String(signalNumber)]);
      if (result.exitCode !== 0 && !isGone(result)) throw failed('kill', id, result);
    },
    async remove(id, bundle, signal) {
      const result = await call('delete', ['--force', id], { signal });
      const isDone = result.exitCode === 0 || isGone(result);
      // An executable that is not there has made nothing, which must not keep the rest from being undone.
      const isNotThere = result.startError !== undefined && !(await keepsState(options.root, id));
      if (!isDone && !isNotThere) throw failed('delete', id, result);
      const cgroup = cgroupOf(bundle);
      if (cgroup !== undefined) await removeCgroup(options.cgroups, cgroup, signal);
    },
    async state(id) {
      const result = await call('state', [id]);
      if (result.exitCode === 0) return stateSchema.parse(JSON.parse(result.stdout));
      if (isGone(result)) return undefined;
      throw failed('state', id, result);
    },
    async update(id, resources) {
      const result = await call('update', ['--resources', '-', id], { input: resources });
      if (result.exitCode !== 0) throw failed('update', id, result);
    },
    async pause(id) {
      const result = await call('pause', [id]);
      if (result.exitCode !== 0) throw failed('pause', id, result);
    },
    async resume(id) {
      const result = await call('resume', [id]);
      if (result.exitCode === 0 || isGone(result) || /not paused/i.test(result.stderr)) return;
      throw failed('resume', id, result);
    },
    async checkpoint(id, { imagePath, workPath, criuDirectory }, signal) {
      const args = ['--image-path', imagePath, '--work-path', workPath, '--leave-running', id];
      const result = await call('checkpoint', args, {
        signal,
        unbounded: true,
        env: { PATH: `${criuDirectory}:${defaultPath}` },
      });
      if (result.exitCode === 0) return;
      throw failed('checkpoint', id, result, criuError(join(workPath, 'dump.log'), result));
    },
    async version() {
      const result = await run(options.binary, ['--version'], { env, timeoutMs: options.timeoutMs });
      if (result.exitCode !== 0) throw failed('--version', '', result);
      return result.stdout.split('\n')[0] ?? '';
    },
    async features() {
      const result = await call('features', []);
      const parsed = result.exitCode === 0 ? parseFeatures(result.stdout) : undefined;
      return {
        recursiveReadOnlyMounts: parsed?.mountOptions.includes('rro') ?? false,
        userNamespaces: parsed?.linux.namespaces.includes('user') ?? false,
      };
    },
  };
}

/** Whether the runtime's state directory holds something of the container: each runtime begins its names with the id. */
async function keepsState(root: string, id: string): Promise<boolean> {
  try {
    return (await readdir(root)).some(name => name.startsWith(id));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

const cgroupsPathSchema = z.object({ linux: z.object({ cgroupsPath: z.string().min(1) }) });

/** The cgroup that the bundle's spec asks for; undefined when there is no spec, so that no container was made of it. */
function cgroupOf(bundle: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(join(bundle, 'config.json'), 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return pathOfCgroupsPath(cgroupsPathSchema.parse(JSON.parse(text)).linux.cgroupsPath);
  } catch {
    return undefined; // cut off by a kill, before the runtime was called
  }
}

const featuresSchema = z.object({
  mountOptions: z.array(z.string()).default([]),
  linux: z.object({ namespaces: z.array(z.string()).default([]) }).prefault({}),
});

function parseFeatures(text: string): z.infer<typeof featuresSchema> | undefined {
  try {
    return featuresSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** The words with which runc, crun and runsc say that there is no such container, or that it has ended. */
function isGone(result: RunResult): boolean {
  return /does not exist|not exist|process already finished|container not running|no such process|unable to signal init/i.test(
    result.stderr,
  );
}

function failed(verb: string, id: string, result: RunResult, logged?: string, bundle?: string): CriError {
  const words = (logged ?? result.stderr.trim()) || 'it gave no reason';
  return new CriError(
    'runtimeFailed',
    `OCI runtime could not ${verb} container ${id}: ${result.outcome}: ${words}${wantOfRoom(bundle)}`,
  );
}

/** What is to be added to the words of a runtime that failed, which may be none or beside the point on a full disk. */
export function wantOfRoom(bundle: string | undefined): string {
  const words = bundle && nearlyFull(bundle);
  return words ? ` (${words})` : '';
}

/** The runtime's words with criu's own last error, which is in its log alone. */
export function criuError(log: string, { stderr }: Pick<RunResult, 'stderr'>): string | undefined {
  let text: string;
  try {
    text = readFileSync(log, 'utf8');
  } catch {
    return undefined; // criu was not reached
  }
  const error = text
    .split('\n')
    .filter(line => line.includes('Error ('))
    .at(-1);
  return error === undefined ? undefined : `${stderr.trim()}; criu: ${error.trim()}`;
}

const logLineSchema = z.object({ level: z.string(), msg: z.string() });

/** The last error that the runtime wrote to its JSON log, which is where it says more than on stderr. */
export function lastLogError(logFile: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(logFile, 'utf8');
  } catch {
    return undefined;
  }
  for (const line of text.trimEnd().split('\n').reverse()) {
    const entry = parseLogLine(line);
    if (entry?.level === 'error' || entry?.level === 'fatal') return entry.msg;
  }
  return undefined;
}

function parseLogLine(line: string): z.infer<typeof logLineSchema> | undefined {
  try {
    return logLineSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined; // a line cut off by a kill
  }
}

function identifyFromFile(pidFile: string, id: string): ProcessIdentity {
  const pid = Number(readFileSync(pidFile, 'latin1'));
  const process = identify(pid);
  if (!process)
    throw new CriError('runtimeFailed', `container ${id} ended as soon as it was started (process ${pid})`);
  return process;
}
