// A streaming server whose containers and pods are made up.
import type { Duplex } from 'node:stream';
import { silentLogger } from '../../../src/log.ts';
import type { RemoteStreams } from '../../../src/streaming/remote-command/streams.ts';
import type { ExecRequest, StreamingBackends } from '../../../src/streaming/requests.ts';
import {
  type StreamingServer,
  type StreamingServerOptions,
  startStreamingServer,
} from '../../../src/streaming/server.ts';

export interface FakeBackends {
  exec?: (streams: RemoteStreams, request: ExecRequest) => Promise<number>;
  attach?: (streams: RemoteStreams) => Promise<void>;
  connect?: (port: number) => Promise<Duplex>;
}

const missing = async (): Promise<never> => {
  throw new Error('the test gave no such backend');
};

export function startServer(
  { exec = missing, attach = missing, connect = missing }: FakeBackends,
  options: Partial<StreamingServerOptions> = {},
): Promise<StreamingServer> {
  const backends: StreamingBackends = {
    exec: (request, streams) => exec(streams, request),
    attach: (_request, streams) => attach(streams),
    connectTo: () => connect,
  };
  return startStreamingServer({
    address: '127.0.0.1',
    port: 0,
    tls: undefined,
    idleTimeoutMs: undefined,
    backends,
    log: silentLogger(),
    ...options,
  });
}

export const execRequest = (over: Partial<ExecRequest> = {}): ExecRequest => ({
  containerId: 'c1',
  command: ['cmd'],
  stdin: false,
  stdout: true,
  stderr: false,
  tty: false,
  ...over,
});
