// The gRPC server on the unix socket: takes a request to its RPC and turns whatever is thrown into a status.
// The only place where errors become gRPC.
import { chmodSync, chownSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import type { ServerConfig } from '../config/types.ts';
import { loadContract } from '../cri-api/contract.ts';
import { loadOperatorContract } from '../cri-api/operator.ts';
import { CriError, codeOf, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { operatorRpcs, operatorStreams } from './operator.ts';
import type { Call, Parts } from './parts.ts';
import { requireNoNul } from './require.ts';
import { rpcs, streamRpcs } from './rpcs.ts';

/** What is known of a finished RPC, for logs and metrics. */
export interface RpcOutcome {
  method: string;
  /** gRPC status name. */
  code: string;
  ms: number;
  error?: unknown;
}

/** An RPC that begins. */
export interface RpcBegin {
  /** Full name, such as `runtime.v1.RuntimeService`. */
  service: string;
  method: string;
  /** A header of the request; undefined when it was not sent. */
  header(name: string): string | undefined;
}

/** Hears of each RPC. */
export interface RpcObserver {
  /** Told of each that has ended. */
  ended(outcome: RpcOutcome): void;
  /** Runs an RPC's work, so that what is done in it can be told apart as its doing. */
  around?: (<T>(rpc: RpcBegin, work: () => Promise<T>) => Promise<T>) | undefined;
}

export interface CriServer {
  /** Binds the socket and begins to answer. */
  listen(config: ServerConfig): Promise<void>;
  /** Takes no new requests, ends when those under way have, or after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

type LooseRpc = (parts: Parts, request: unknown, call: Call) => unknown;
type LooseStreamRpc = (parts: Parts, request: unknown, call: Call) => AsyncIterable<unknown>;

export function createCriServer(parts: Parts, config: ServerConfig, observer: RpcObserver): CriServer {
  const { RuntimeService, ImageService } = loadContract();
  const server = new Server({
    'grpc.max_receive_message_length': config.maxReceiveBytes,
    'grpc.max_send_message_length': config.maxSendBytes,
  });
  // The private service of `cri-ts image` has names of its own and is served like the contract's.
  for (const { service } of [RuntimeService, ImageService, loadOperatorContract().Images]) {
    const names = Object.values(service).map(({ path }) => path.split('/').slice(1) as [string, string]);
    const handlers = names.flatMap(([serviceName, name]) => {
      const handler = handlerOf(serviceName, name, parts, observer);
      return handler ? [[name, handler] as const] : []; // grpc answers UNIMPLEMENTED, naming the method
    });
    server.addService(service, Object.fromEntries(handlers));
  }
  return {
    async listen({ socketPath, uid, gid }) {
      mkdirSync(dirname(socketPath), { recursive: true, mode: 0o711 });
      await removeStaleSocket(socketPath, parts.log);
      await bind(server, socketPath); // who may not write to it (the daemon's umask) cannot connect
      chmodSync(socketPath, 0o660);
      chownSync(socketPath, uid, gid);
    },
    close: graceMs =>
      new Promise(resolve => {
        const timer = setTimeout(() => server.forceShutdown(), graceMs);
        server.tryShutdown(() => {
          clearTimeout(timer);
          resolve();
        });
      }),
  };
}

function bind(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, ServerCredentials.createInsecure(), error => {
      if (error)
        reject(
          new CriError('unavailable', `cannot listen on ${socketPath}: ${error.message}`, { cause: error }),
        );
      else resolve();
    });
  });
}

/**
 * Removes a socket that nobody answers on.
 * @throws CriError alreadyExists when somebody does, or when something else has that name, which is left alone
 */
async function removeStaleSocket(socketPath: string, log: Logger): Promise<void> {
  const found = lstatSync(socketPath, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) {
    throw new CriError(
      'alreadyExists',
      `${socketPath} is there and is no socket: remove it, or choose another --address`,
    );
  }
  const refusal = await new Promise<string | undefined>(resolve => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', error => resolve(codeOf(error)));
  });
  // Others are no sign that nobody listens: EAGAIN is a process that is too busy to take more connections.
  if (refusal !== 'ECONNREFUSED' && refusal !== 'ENOENT') {
    throw new CriError(
      'alreadyExists',
      `another process answers on ${socketPath}: stop it, or choose another --address`,
    );
  }
  try {
    unlinkSync(socketPath);
    log.debug({ socket: socketPath }, 'removed the socket of a daemon that was killed');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

function handlerOf(
  service: string,
  name: string,
  parts: Parts,
  observer: RpcObserver,
): UntypedHandleCall | undefined {
  const unary = ({ ...rpcs, ...operatorRpcs } as Record<string, unknown>)[name] as LooseRpc | undefined;
  const observed = observe(service, name, observer);
  if (unary) return unaryHandler(unary, parts, observed);
  const streams: Record<string, unknown> = { ...streamRpcs, ...operatorStreams };
  const stream = streams[name] as LooseStreamRpc | undefined;
  return stream && streamHandler(stream, parts, observed);
}

/** One RPC's work, run and observed from its beginning to its end. */
type Observed = <T>(metadata: Metadata, work: () => Promise<T>) => Promise<T>;

function observe(service: string, method: string, { around, ended }: RpcObserver): Observed {
  return (metadata, work) => {
    const start = performance.now();
    const toItsEnd = async () => {
      try {
        const result = await work();
        ended(outcome(method, start, undefined));
        return result;
      } catch (error) {
        ended(outcome(method, start, error));
        throw error;
      }
    };
    const header = (name: string) => metadata.get(name)[0]?.toString();
    return around ? around({ service, method, header }, toItsEnd) : toItsEnd();
  };
}

function unaryHandler(rpc: LooseRpc, parts: Parts, observed: Observed) {
  return (call: ServerUnaryCall<unknown, unknown>, reply: sendUnaryData<unknown>) => {
    const { signal } = abortOnCancel(call);
    // Asynchronous from its start, so that what an RPC throws before its first await is answered too.
    observed(call.metadata, async () => {
      requireNoNul(call.request);
      return rpc(parts, call.request, { signal });
    }).then(
      response => reply(null, response),
      error => reply(toStatus(error)),
    );
  };
}

function streamHandler(rpc: LooseStreamRpc, parts: Parts, observed: Observed) {
  return (call: ServerWritableStream<unknown, unknown>) => {
    const { signal } = abortOnCancel(call);
    observed(call.metadata, async () => {
      requireNoNul(call.request);
      for await (const message of rpc(parts, call.request, { signal })) {
        if (signal.aborted) break;
        if (!call.write(message)) await writable(call, signal);
      }
    }).then(
      () => call.end(),
      error => call.emit('error', toStatus(error)),
    );
  };
}

/** Resolves when more can be written, or nobody reads any more. */
function writable(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      call.removeListener('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    call.once('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}

function abortOnCancel(call: { on(event: 'cancelled', listener: () => void): unknown }): AbortController {
  const abort = new AbortController();
  call.on('cancelled', () => abort.abort(new Error('the client went away or its deadline passed')));
  return abort;
}

function outcome(method: string, start: number, error: unknown): RpcOutcome {
  const ms = performance.now() - start;
  if (error === undefined) return { method, code: 'OK', ms };
  return { method, code: error instanceof CriError ? error.status : 'UNKNOWN', ms, error };
}

/** An error as a gRPC status; what is not of the catalogue keeps its words under UNKNOWN. */
function toStatus(error: unknown): { code: number; details: string } {
  const code = error instanceof CriError ? status[error.status] : status.UNKNOWN;
  return { code, details: messageOf(error) };
}
