// Executes one plugin once (spec section 2): parameters in the environment, configuration on stdin, the result on
// stdout. Every way in which a plugin can fail becomes a CniError here; every run is reported to an observer.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { defaultPath } from '../host/executables.ts';
import { type RunResult, run } from '../host/process.ts';
import { CniError, type CniErrorDetails, type CniErrorKind, type PluginErrorResult } from './errors.ts';
import type { PluginBinary } from './find-plugin.ts';
import type { JsonObject } from './network-config.ts';
import type { Verb } from './plugin-config.ts';
import { excerpt } from './result.ts';

/** One execution of a plugin, reported when it has ended. */
export interface PluginRun {
  verb: Verb;
  /** The plugin's type. */
  plugin: string;
  path: string;
  /** Absent for VERSION. */
  network: string | undefined;
  containerId: string | undefined;
  ifName: string | undefined;
  /** Milliseconds since the epoch. */
  startedAt: number;
  durationMs: number;
  outcome: 'ok' | CniErrorKind;
  error: CniError | undefined;
  /** The CNI_* variables. */
  environment: Readonly<Record<string, string>>;
  stdin: string;
  stdout: string;
}

export type OnPluginRun = (run: PluginRun) => void;

export interface PluginCall<T> {
  verb: Verb;
  binary: PluginBinary;
  network?: string | undefined;
  /** The CNI_* variables. */
  environment: Readonly<Record<string, string>>;
  config: JsonObject;
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  /** Makes the value of stdout; a CniError it throws has a message that says what the output is. */
  decode: (stdout: string) => T;
}

export type ExecutePlugin = <T>(call: PluginCall<T>) => Promise<T>;

export interface ExecuteOptions {
  /** What a plugin's environment holds besides CNI_*. Default: the daemon's own, as other runtimes hand it over. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Milliseconds a plugin may take. */
  timeoutMs: number;
  onPluginRun?: OnPluginRun | undefined;
}

const maxOutputBytes = 1024 * 1024;
const maxErrorBytes = 4096;
// A plugin that is just being installed cannot be executed while its file is open for writing.
const busyRetries = 20;
const busyRetryMs = 100;

/** Less than the engine waits for a step whose caller has gone, so that DEL does not run beside an ADD. */
const finishMs = 3000;

/** Makes the function that executes plugins with these options. */
export function createExecutor(options: ExecuteOptions): ExecutePlugin {
  const inherited = inheritedEnv(options.env ?? process.env);
  return async call => {
    const stdin = JSON.stringify(call.config);
    const kill = killSignal(call);
    const startedAt = Date.now();
    const start = performance.now();
    const ended = await runWhenFree(call.binary.path, {
      env: { ...inherited, ...call.environment },
      input: stdin,
      maxOutputBytes,
      maxErrorBytes,
      timeoutMs: call.timeoutMs ?? options.timeoutMs,
      ...(kill.signal === undefined ? {} : { signal: kill.signal }),
    });
    kill.dispose();
    const interpreted = interpret(call, ended);
    const error = 'error' in interpreted ? interpreted.error : undefined;
    options.onPluginRun?.({
      verb: call.verb,
      plugin: call.binary.type,
      path: call.binary.path,
      network: call.network,
      ...attachmentOf(call),
      startedAt,
      durationMs: performance.now() - start,
      outcome: error?.kind ?? 'ok',
      error,
      environment: call.environment,
      stdin,
      stdout: ended.stdout,
    });
    if ('error' in interpreted) throw interpreted.error;
    return interpreted.value;
  };
}

/**
 * When to kill a plugin whose caller has gone. An ADD is let finish, if it does so soon: what it made is whole then, and DEL takes
 * it away. One that is killed may leave what no DEL finds, such as an address that host-local has taken and not signed.
 */
function killSignal({ verb, signal }: PluginCall<unknown>): {
  signal: AbortSignal | undefined;
  dispose(): void;
} {
  if (verb !== 'ADD' || !signal || signal.aborted) return { signal, dispose() {} };
  const kill = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => kill.abort(signal.reason), finishMs);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  return {
    signal: kill.signal,
    dispose() {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    },
  };
}

function inheritedEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const inherited: Record<string, string> = { PATH: defaultPath };
  for (const [key, value] of Object.entries(env)) {
    if (value !== undefined && !key.startsWith('CNI_')) inherited[key] = value;
  }
  return inherited;
}

async function runWhenFree(path: string, options: Parameters<typeof run>[2]): Promise<RunResult> {
  for (let attempt = 0; ; attempt++) {
    const ended = await run(path, [], options);
    if (ended.startError !== 'ETXTBSY' || attempt === busyRetries) return ended;
    await sleep(busyRetryMs);
  }
}

function interpret<T>(call: PluginCall<T>, ended: RunResult): { value: T } | { error: CniError } {
  if (ended.failure !== undefined || ended.exitCode !== 0) return { error: failureOf(call, ended) };
  try {
    return { value: call.decode(ended.stdout) };
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown;
    const message = `${subject(call)} ended well, but its output ${thrown.message}`;
    return { error: new CniError(thrown.kind, message, detailsOf(call, ended)) };
  }
}

const kindOfFailure = {
  'not-started': 'plugin-not-started',
  'timed-out': 'plugin-timed-out',
  cancelled: 'cancelled',
  'too-much-output': 'plugin-output-too-large',
} as const satisfies Record<NonNullable<RunResult['failure']>, CniErrorKind>;

function failureOf<T>(call: PluginCall<T>, ended: RunResult): CniError {
  const details = detailsOf(call, ended);
  const said =
    ended.stderr.trim() === '' ? '' : `; it wrote to stderr: ${excerpt(ended.stderr.trim().slice(-300))}`;
  if (ended.failure !== undefined || ended.signal !== undefined) {
    const kind = ended.failure === undefined ? 'plugin-killed' : kindOfFailure[ended.failure];
    return new CniError(kind, `${subject(call)} failed: ${ended.outcome}${said}`, details);
  }
  const pluginError = parsePluginError(ended.stdout);
  if (pluginError !== undefined) {
    const more = pluginError.details ? `; ${pluginError.details}` : '';
    const message = `${subject(call)} failed: ${pluginError.msg}${more} (code ${pluginError.code})`;
    return new CniError('plugin-failed', message, { ...details, pluginError });
  }
  const printed =
    ended.stdout.trim() === '' ? 'no error message' : `no CNI error but ${excerpt(ended.stdout)}`;
  return new CniError(
    'plugin-failed',
    `${subject(call)} failed: ${ended.outcome} and printed ${printed}${said}`,
    details,
  );
}

function subject<T>({ verb, binary, network, environment }: PluginCall<T>): string {
  const { containerId, ifName } = attachmentOf({ network, environment });
  const attachment = containerId === undefined ? '' : ` for ${ifName} of container ${containerId}`;
  const place = network === undefined ? '' : ` of network ${JSON.stringify(network)}`;
  return `CNI ${verb} of plugin ${binary.path}${place}${attachment}`;
}

/** The attachment that a call is about; GC and STATUS have none, and VERSION has words in its place. */
function attachmentOf(call: Pick<PluginCall<unknown>, 'network' | 'environment'>): {
  containerId: string | undefined;
  ifName: string | undefined;
} {
  const { CNI_CONTAINERID: containerId, CNI_IFNAME: ifName } = call.environment;
  if (call.network === undefined || !containerId) return { containerId: undefined, ifName: undefined };
  return { containerId, ifName };
}

function detailsOf<T>(call: PluginCall<T>, ended: RunResult): CniErrorDetails {
  const { containerId, ifName } = attachmentOf(call);
  return {
    verb: call.verb,
    plugin: call.binary.path,
    ...(call.network === undefined ? {} : { network: call.network }),
    ...(containerId === undefined ? {} : { containerId }),
    ...(ifName === undefined ? {} : { ifName }),
    ...(ended.exitCode === undefined ? {} : { exitCode: ended.exitCode }),
    ...(ended.stderr === '' ? {} : { stderr: ended.stderr }),
  };
}

const pluginErrorSchema = z.object({
  code: z.number(),
  msg: z.string(),
  details: z.string().optional(),
});

function parsePluginError(stdout: string): PluginErrorResult | undefined {
  try {
    return pluginErrorSchema.safeParse(JSON.parse(stdout)).data;
  } catch {
    return undefined; // Not JSON: the caller reports the text itself.
  }
}
