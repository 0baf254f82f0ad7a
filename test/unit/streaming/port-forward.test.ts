// Port-forward as the protocols carry it, to pods that are made up.
import { createServer, connect as netConnect, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StreamingServer, StreamingServerOptions } from '../../../src/streaming/server.ts';
import { connectSpdy, type SpdyClient, textOf } from '../../support/streaming/spdy-client.ts';
import { connectWebSocket } from '../../support/streaming/websocket-client.ts';
import { startServer } from './fixture.ts';

let server: StreamingServer;
let pod: Server;
const asked: number[] = [];
/** What is connected to the pod now. */
const atPod = new Set<Duplex>();

beforeEach(() => {
  asked.length = 0;
  pod = createServer({ allowHalfOpen: true }, socket => {
    atPod.add(socket);
    socket.on('error', () => {}).on('close', () => atPod.delete(socket));
    socket.pipe(socket);
  });
});
afterEach(async () => {
  await server.close();
  pod.close();
});

async function start(options: Partial<StreamingServerOptions> = {}): Promise<void> {
  await new Promise<void>(resolve => pod.listen(0, '127.0.0.1', resolve));
  const address = pod.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const connect = async (wanted: number) => {
    asked.push(wanted);
    if (wanted === 1) throw new Error('connection refused');
    return netConnect({ port, host: '127.0.0.1', allowHalfOpen: true });
  };
  server = await startServer({ connect }, options);
}

async function connect(options: Partial<StreamingServerOptions> = {}): Promise<SpdyClient> {
  await start(options);
  const url = server.portForwardUrl({ sandboxId: 'p1', ports: [] });
  const { client, headers } = await connectSpdy(url, ['portforward.k8s.io']);
  if (!client) throw new Error('not upgraded');
  expect(headers['x-stream-protocol-version']).toBe('portforward.k8s.io');
  return client;
}

const until = async (what: () => boolean) => {
  while (!what()) await new Promise(resolve => setTimeout(resolve, 5));
};

describe('port-forward over SPDY', () => {
  it('joins the data and the error stream of one request, in either order', async () => {
    const client = await connect();
    const data = await client.open({ streamtype: 'data', port: '80', requestid: '7' });
    const error = await client.open({ streamtype: 'error', port: '80', requestid: '7' });
    data.duplex.end('there and back');
    expect(await textOf(data.duplex)).toBe('there and back');
    expect(await textOf(error.duplex)).toBe('');
    expect(asked).toEqual([80]);
    client.close();
  });

  it('joins streams without request ids by their order, as old clients need', async () => {
    const client = await connect();
    for (const said of ['one', 'two']) {
      await client.open({ streamtype: 'error', port: '80' });
      const { duplex } = await client.open({ streamtype: 'data', port: '80' });
      duplex.end(said);
      expect(await textOf(duplex)).toBe(said);
    }
    client.close();
  });

  it.each([
    ['no port', { streamtype: 'data', requestid: '0' }],
    ['port 0', { streamtype: 'data', port: '0', requestid: '0' }],
    ['a port beyond 65535', { streamtype: 'data', port: '65536', requestid: '0' }],
    ['a port that is no number', { streamtype: 'data', port: 'http', requestid: '0' }],
    ['another type', { streamtype: 'stdin', port: '80', requestid: '0' }],
  ])('resets a stream with %s', async (_what, headers) => {
    const client = await connect();
    const stream = await client.open(headers as Record<string, string>);
    await client.ping();
    expect(stream.resetCode).toBe(5);
    expect(asked).toEqual([]);
    client.close();
  });

  it('resets a second stream of one type, or of another port', async () => {
    const client = await connect();
    await client.open({ streamtype: 'error', port: '80', requestid: '1' });
    const twice = await client.open({ streamtype: 'error', port: '80', requestid: '1' });
    const other = await client.open({ streamtype: 'data', port: '81', requestid: '1' });
    await client.ping();
    expect([twice.resetCode, other.resetCode]).toEqual([5, 5]);
    client.close();
  });

  it('gives up a request whose second stream does not come', async () => {
    const client = await connect({ creationTimeoutMs: 50 });
    const error = await client.open({ streamtype: 'error', port: '80', requestid: '1' });
    expect(await textOf(error.duplex)).toContain('opened no data stream in time');
    const data = await client.open({ streamtype: 'data', port: '80', requestid: '2' });
    await until(() => data.resetCode !== undefined);
    client.close();
  });

  it('tells why a port cannot be reached', async () => {
    const client = await connect();
    const error = await client.open({ streamtype: 'error', port: '1', requestid: '1' });
    const data = await client.open({ streamtype: 'data', port: '1', requestid: '1' });
    expect(await textOf(error.duplex)).toBe('port 1 of the pod cannot be reached: connection refused');
    await until(() => data.resetCode !== undefined);
    client.close();
  });

  it('closes the connection to the pod when the client resets the stream, or goes away', async () => {
    const client = await connect();
    for (const requestid of ['1', '2']) {
      await client.open({ streamtype: 'error', port: '80', requestid });
      const data = await client.open({ streamtype: 'data', port: '80', requestid });
      data.duplex.write('x');
      await until(() => atPod.size === 1);
      if (requestid === '1') data.reset(5);
      else client.close();
      await until(() => atPod.size === 0);
    }
  });

  it('tells the client that the pod broke the connection off', async () => {
    const client = await connect();
    const error = await client.open({ streamtype: 'error', port: '80', requestid: '1' });
    const data = await client.open({ streamtype: 'data', port: '80', requestid: '1' });
    data.duplex.write('x');
    await until(() => atPod.size === 1);
    for (const socket of atPod) (socket as import('node:net').Socket).resetAndDestroy();
    expect(await textOf(error.duplex)).not.toBe('');
    client.close();
  });
});

describe('port-forward over WebSocket channels', () => {
  it('needs ports in the request', async () => {
    await start();
    const url = server.portForwardUrl({ sandboxId: 'p1', ports: [] });
    const { status, body } = await connectWebSocket(url, ['v4.channel.k8s.io']);
    expect({ status, body }).toEqual({ status: 400, body: expect.stringContaining('ports') });
  });

  it('sends what the client said before it closed', async () => {
    await start();
    const url = server.portForwardUrl({ sandboxId: 'p1', ports: [80] });
    let said = '';
    pod.on('connection', socket => socket.on('data', chunk => (said += chunk)));
    const { client } = await connectWebSocket(url, ['v4.channel.k8s.io']);
    await client?.send(Buffer.concat([Buffer.from([0]), Buffer.from('last words')]));
    client?.close();
    await until(() => said === 'last words' && atPod.size === 0);
  });
});
