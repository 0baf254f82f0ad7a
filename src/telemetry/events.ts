// What is told of the daemon's work to whoever counts or traces it.
import type { PluginRun } from '../cni-invoker/index.ts';
import type { StepObserver } from '../steps/engine.ts';

/** An RPC that begins: enough to name it and to find the caller's trace. */
export interface RpcBegin {
  service: string;
  method: string;
  /** A header of the request; undefined when it was not sent. */
  header(name: string): string | undefined;
}

/** An RPC that has ended. */
export interface RpcEnd {
  method: string;
  /** gRPC status name. */
  code: string;
  ms: number;
}

/** One use of an OCI runtime, directly or through conmon. */
export interface RuntimeRun {
  /** The executable's name, such as `runc`. */
  program: string;
  /** As the runtime's command line names it: `create`, `start`, `delete`, ... */
  command: string;
  ms: number;
  error?: unknown;
}

/** Hears of the daemon's work. A listener must not throw. */
export interface WorkListener {
  steps?: StepObserver;
  /** Runs an RPC's work, so that what is done in it can be told apart as its doing. */
  aroundRpc?<T>(rpc: RpcBegin, work: () => Promise<T>): Promise<T>;
  rpcEnded?(rpc: RpcEnd): void;
  pluginRan?(run: PluginRun): void;
  runtimeRan?(run: RuntimeRun): void;
  pullEnded?(pull: { ms: number; ok: boolean }): void;
}
