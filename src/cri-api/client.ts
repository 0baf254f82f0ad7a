// A CRI client for the commands that ask a running daemon: each unary RPC as a promise over its unix socket.
import { credentials, type ServiceError } from '@grpc/grpc-js';
import { CriError } from '../errors.ts';
import { type Loose, loadContract } from './contract.ts';
import type { RuntimeServiceMethods } from './types.ts';

type Unary = {
  [Name in keyof RuntimeServiceMethods]: RuntimeServiceMethods[Name]['stream'] extends true ? never : Name;
}[keyof RuntimeServiceMethods];

type Response<Name extends Unary> = RuntimeServiceMethods[Name]['response'];

export interface RuntimeClient {
  readonly socketPath: string;
  /**
   * @throws CriError unavailable when nobody serves on the socket, deadlineExceeded when it does not answer; else notFound
   * or internal with the daemon's own sentence
   */
  call<Name extends Unary>(
    name: Name,
    request?: Loose<RuntimeServiceMethods[Name]['request']>,
  ): Promise<Response<Name>>;
  close(): void;
}

const deadlineExceeded = 4; // gRPC's status numbers
const notFound = 5;
const unavailable = 14;

/** Milliseconds that a daemon may take for an answer: it only looks things up, but its machine may be busy. */
const patience = 60_000;

export function connectRuntime(socketPath: string): RuntimeClient {
  const { RuntimeService } = loadContract();
  const client = new RuntimeService(`unix:${socketPath}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 64 << 20,
  });
  return {
    socketPath,
    call: (name, request) =>
      new Promise((resolve, reject) => {
        const method: unknown = Reflect.get(client, name);
        if (typeof method !== 'function') throw new CriError('internal', `the contract has no RPC ${name}`);
        const answered = (error: ServiceError | null, response: Response<typeof name>) => {
          if (error) reject(failure(error, name, socketPath));
          else resolve(response);
        };
        method.call(client, request ?? {}, { deadline: Date.now() + patience }, answered);
      }),
    close: () => client.close(),
  };
}

function failure({ code, details }: ServiceError, name: string, socketPath: string): CriError {
  if (code === deadlineExceeded) {
    const message = `the daemon on ${socketPath} has not answered ${name} within ${patience / 1000} s: see its log`;
    return new CriError('deadlineExceeded', message);
  }
  if (code === notFound) return new CriError('notFound', details, { cause: details });
  if (code !== unavailable) return new CriError('internal', details, { cause: details });
  return new CriError(
    'unavailable',
    `no daemon answers ${name} on ${socketPath}: start it (cri-ts serve), or name its socket with --address`,
  );
}
