// The daemon's metrics and traces, as it is wired to them: nothing at all unless configured.
import { basename } from 'node:path';
import type { Config } from '../config/types.ts';
import type { Logger } from '../log.ts';
import type { Conmon } from '../oci/conmon.ts';
import type { OciRuntime } from '../oci/runtime.ts';
import type { StepObserver } from '../steps/engine.ts';
import type { RpcBegin, WorkListener } from './events.ts';
import { createMetrics, type States } from './metrics.ts';
import { createTracing } from './tracing.ts';

export interface Telemetry extends Required<Omit<WorkListener, 'steps' | 'aroundRpc'>> {
  /** Carries trace and span in lines that are written in the course of a traced request. */
  log: Logger;
  stepObservers: readonly StepObserver[];
  /** undefined when nothing is traced. */
  aroundRpc: (<T>(rpc: RpcBegin, work: () => Promise<T>) => Promise<T>) | undefined;
  /** `images` with a `pull` whose time is taken. */
  timingPulls<T extends { pull(...args: never[]): Promise<string> }>(images: T): T;
  /** A runtime whose calls are timed. */
  timingRuntime(runtime: OciRuntime): OciRuntime;
  /** A conmon whose creations of containers are timed. */
  timingConmon(conmon: Conmon): Conmon;
  /** Begins to answer scrapes, when an address is configured. @throws CriError unavailable */
  serve(states: States): Promise<void>;
  close(): Promise<void>;
}

export async function startTelemetry(
  config: Pick<Config, 'metrics' | 'tracing'>,
  version: string,
  plainLog: Logger,
): Promise<Telemetry> {
  const metrics = config.metrics.address === undefined ? undefined : await createMetrics();
  const tracing =
    config.tracing.endpoint === undefined
      ? undefined
      : await createTracing(config.tracing, version, plainLog);
  const listeners: WorkListener[] = [metrics, tracing].filter(listener => listener !== undefined);
  const log = tracing
    ? plainLog.child({}, { formatters: { log: fields => ({ ...tracing.logFields(), ...fields }) } })
    : plainLog;

  const telemetry: Telemetry = {
    log,
    stepObservers: listeners.flatMap(({ steps }) => steps ?? []),
    aroundRpc: tracing?.aroundRpc,
    rpcEnded: rpc => {
      for (const listener of listeners) listener.rpcEnded?.(rpc);
    },
    pluginRan: run => {
      for (const listener of listeners) listener.pluginRan?.(run);
    },
    runtimeRan: run => {
      for (const listener of listeners) listener.runtimeRan?.(run);
    },
    pullEnded: pull => {
      for (const listener of listeners) listener.pullEnded?.(pull);
    },
    timingPulls(images) {
      if (listeners.length === 0) return images;
      const pull = (...args: Parameters<typeof images.pull>) =>
        timed(images.pull(...args), (ms, error) => telemetry.pullEnded({ ms, ok: error === undefined }));
      return { ...images, pull };
    },
    timingRuntime(runtime) {
      if (listeners.length === 0) return runtime;
      const program = basename(runtime.options.binary);
      const time = <T>(command: string, work: Promise<T>) =>
        timed(work, (ms, error) => telemetry.runtimeRan({ program, command, ms, error }));
      return {
        ...runtime,
        runDetached: (...args) => time('run', runtime.runDetached(...args)),
        start: (...args) => time('start', runtime.start(...args)),
        kill: (...args) => time('kill', runtime.kill(...args)),
        remove: (...args) => time('delete', runtime.remove(...args)),
        state: (...args) => time('state', runtime.state(...args)),
        update: (...args) => time('update', runtime.update(...args)),
        pause: (...args) => time('pause', runtime.pause(...args)),
        resume: (...args) => time('resume', runtime.resume(...args)),
        checkpoint: (...args) => time('checkpoint', runtime.checkpoint(...args)),
      };
    },
    timingConmon(conmon) {
      if (listeners.length === 0) return conmon;
      return {
        ...conmon,
        create: (...args) =>
          timed(conmon.create(...args), (ms, error) =>
            telemetry.runtimeRan({ program: 'conmon', command: 'create', ms, error }),
          ),
      };
    },
    async serve(states) {
      if (!metrics || config.metrics.address === undefined) return;
      const address = await metrics.serve(config.metrics.address, states);
      log.info({ address }, 'metrics are served');
    },
    async close() {
      await Promise.all([metrics?.close(), tracing?.close()]);
    },
  };
  return telemetry;
}

async function timed<T>(work: Promise<T>, ended: (ms: number, error?: unknown) => void): Promise<T> {
  const start = performance.now();
  try {
    const result = await work;
    ended(performance.now() - start);
    return result;
  } catch (error) {
    ended(performance.now() - start, error);
    throw error;
  }
}
