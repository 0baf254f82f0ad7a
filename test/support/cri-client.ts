// A CRI client for tests: each RPC of the contract as a promise, over the daemon's socket.
import { credentials, type ServiceError } from '@grpc/grpc-js';
import { type Loose, loadContract } from '../../src/cri-api/contract.ts';
import type { ImageServiceMethods, RuntimeServiceMethods } from '../../src/cri-api/types.ts';

type Methods = RuntimeServiceMethods & ImageServiceMethods;
type Unary = { [Name in keyof Methods]: Methods[Name]['stream'] extends true ? never : Name }[keyof Methods];
type Streaming = Exclude<keyof Methods, Unary>;

export type CriClient = {
  [Name in Unary]: (
    request?: Loose<Methods[Name]['request']>,
    options?: { timeoutMs?: number; signal?: AbortSignal },
  ) => Promise<Methods[Name]['response']>;
} & {
  stream<Name extends Streaming>(
    name: Name,
    request?: Loose<Methods[Name]['request']>,
  ): AsyncIterable<Methods[Name]['response']> & { cancel(): void };
  close(): void;
};

/** A failed RPC: `code` is the gRPC status number, `details` the daemon's sentence. */
export type RpcError = ServiceError;

export function connectCri(socketPath: string): CriClient {
  const { RuntimeService, ImageService } = loadContract();
  const options = { 'grpc.max_receive_message_length': 64 << 20 };
  const clients = [RuntimeService, ImageService].map(
    Service => new Service(`unix:${socketPath}`, credentials.createInsecure(), options),
  );
  const clientOf = (name: string) => {
    const client = clients.find(candidate => name in candidate);
    if (!client) throw new Error(`the contract has no RPC ${name}`);
    return client as unknown as Record<
      string,
      (...args: unknown[]) => { cancel(): void } & AsyncIterable<never>
    >;
  };
  const unary =
    (name: string) =>
    (request: unknown = {}, { timeoutMs, signal }: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
      new Promise((resolve, reject) => {
        const deadline = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
        const call = clientOf(name)[name]?.(request, deadline, (error: unknown, response: unknown) =>
          error ? reject(error) : resolve(response),
        );
        signal?.addEventListener('abort', () => call?.cancel());
      });
  const special = {
    stream: (name: string, request: unknown = {}) => clientOf(name)[name]?.(request),
    close: () => {
      for (const client of clients) client.close();
    },
    // A proxy that answers to every name is no promise.
    // biome-ignore lint/suspicious/noThenProperty: it says that there is none
    then: undefined,
  };
  return new Proxy(special, {
    get: (target, name) => (name in target ? target[name as keyof typeof target] : unary(String(name))),
  }) as unknown as CriClient;
}

/** The details of an RPC that must fail, and its status number. */
export async function failureOf(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  try {
    await call;
  } catch (error) {
    const { code, details } = error as RpcError;
    return { code, details };
  }
  throw new Error('the RPC was expected to fail, and did not');
}
