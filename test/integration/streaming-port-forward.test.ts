// Port-forward through the CRI and the streaming server, into real network namespaces.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startNode, type TestNode, until } from '../support/node.ts';
import { connectSpdy, type SpdyClient, speakSpdy, textOf } from '../support/streaming/spdy-client.ts';
import { connectWebSocket } from '../support/streaming/websocket-client.ts';

let node: TestNode;
let pod: string;
let servers: ChildProcess;
/** Answers what it was sent once the client has half-closed; on IPv4 alone. */
const answerPort = 8080;
/** Sends back what comes; on IPv6 alone. */
const echoPort = 8081;
/** Speaks first and closes. */
const greetPort = 8082;
const closedPort = 8099;

beforeAll(async () => {
  node = await startNode();
  pod = await node.runPod();
  servers = await serveInPod([
    ['127.0.0.1', answerPort, 'answer'],
    ['::1', echoPort, 'echo'],
    ['127.0.0.1', greetPort, 'greet'],
  ]);
});
afterAll(async () => {
  servers?.kill();
  await node?.destroy();
});

async function serveInPod(wanted: [address: string, port: number, kind: string][]): Promise<ChildProcess> {
  const { info } = await node.cri.PodSandboxStatus({ podSandboxId: pod, verbose: true });
  const { pid } = JSON.parse(info.info ?? '') as { pid: number };
  const script = fileURLToPath(new URL('../support/streaming/echo-server.mjs', import.meta.url));
  const child = spawn(
    'nsenter',
    [`--net=/proc/${pid}/ns/net`, process.execPath, script, ...wanted.flat().map(String)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(child.stdout, 'data');
  return child;
}

const urlOf = async (podSandboxId: string, ports: number[] = []) =>
  (await node.cri.PortForward({ podSandboxId, port: ports })).url;

async function connect(podSandboxId = pod): Promise<SpdyClient> {
  const { client } = await connectSpdy(await urlOf(podSandboxId), ['portforward.k8s.io']);
  if (!client) throw new Error('the server did not switch to SPDY');
  return client;
}

let requests = 0;
/** One forwarded connection. */
async function open(client: SpdyClient, port: number): Promise<{ data: Duplex; error: Promise<string> }> {
  const headers = { port: `${port}`, requestid: `${requests++}` };
  const error = await client.open({ ...headers, streamtype: 'error' }, { fin: true });
  const data = await client.open({ ...headers, streamtype: 'data' });
  return { data: data.duplex, error: textOf(error.duplex) };
}

async function ask(client: SpdyClient, port: number, question: string): Promise<string> {
  const { data, error } = await open(client, port);
  data.end(question);
  const answer = await textOf(data);
  expect(await error).toBe('');
  return answer;
}

describe('port-forward over SPDY', () => {
  it('reaches the localhost of the pod, and half-closes in either direction', async () => {
    const client = await connect();
    expect(await ask(client, answerPort, 'question')).toBe('all of it: question');
    client.close();
  });

  it('falls back to IPv6', async () => {
    const client = await connect();
    expect(await ask(client, echoPort, 'over six')).toBe('over six');
    client.close();
  });

  it('tells the end of the pod before the client has closed', async () => {
    const client = await connect();
    const { data, error } = await open(client, greetPort);
    expect(await textOf(data)).toBe('hello');
    expect(await error).toBe('');
    data.end();
    client.close();
  });

  it('carries many connections at once', async () => {
    const client = await connect();
    const answers = Array.from({ length: 100 }, (_, i) => ask(client, answerPort, `number ${i}`));
    expect(await Promise.all(answers)).toEqual(
      Array.from({ length: 100 }, (_, i) => `all of it: number ${i}`),
    );
    client.close();
  });

  it('tells on the error stream that nothing listens, and goes on with others', async () => {
    const client = await connect();
    const { error } = await open(client, closedPort);
    expect(await error).toMatch(/port 8099 of the pod cannot be reached: .*connection refused/);
    expect(await ask(client, answerPort, 'still there')).toContain('still there');
    client.close();
  });

  it('carries a large amount intact', async () => {
    const client = await connect();
    const { data } = await open(client, echoPort);
    const block = Buffer.alloc(1024 * 1024, 'port-forward ');
    for (let i = 0; i < 64; i++) data.write(block);
    data.end();
    let received = 0;
    for await (const chunk of data) received += (chunk as Buffer).length;
    expect(received).toBe(64 * block.length);
    client.close();
  });

  it("reaches the host's localhost for a pod of the host's network", async () => {
    const hostPod = await node.runPod({
      linux: { securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } } },
    });
    const server = createServer(socket => socket.end('from the host')).listen(0, '127.0.0.1');
    await until('it listens', () => server.listening || undefined);
    const address = server.address();
    const client = await connect(hostPod);
    expect(await ask(client, typeof address === 'object' ? (address?.port ?? 0) : 0, '')).toBe(
      'from the host',
    );
    client.close();
    server.close();
  });
});

describe('port-forward over WebSocket', () => {
  it('carries tunnelled SPDY, as kubectl does', async () => {
    const { client: socket, headers } = await connectWebSocket(await urlOf(pod), [
      'SPDY/3.1+portforward.k8s.io',
    ]);
    expect(headers['sec-websocket-protocol']).toBe('SPDY/3.1+portforward.k8s.io');
    const transport = socket?.asByteStream();
    if (!transport) throw new Error('no WebSocket');
    const client = speakSpdy(transport);
    const answers = ['a', 'b', 'c'].map(text => ask(client, answerPort, text));
    expect(await Promise.all(answers)).toEqual(['a', 'b', 'c'].map(text => `all of it: ${text}`));
    socket?.close();
    await socket?.closed;
  });

  it('has two channels a port, each opened with the number of the port', async () => {
    const url = await urlOf(pod, [greetPort, closedPort]);
    const { client } = await connectWebSocket(url, ['v4.channel.k8s.io']);
    const prefix = (port: number) => Buffer.from([port & 0xff, port >> 8]);
    await client?.until(0, text => text.endsWith('hello'));
    await client?.until(3, text => text.includes('refused'));
    expect(client?.channel(0)).toEqual(Buffer.concat([prefix(greetPort), Buffer.from('hello')]));
    expect(client?.channel(2)).toEqual(prefix(closedPort));
    expect(client?.channel(3).subarray(0, 2)).toEqual(prefix(closedPort));
    await client?.closed;
    expect(client?.closeCode).toBe(1000);
  });

  it('hands what the client sends to the pod', async () => {
    const { client } = await connectWebSocket(await urlOf(pod, [echoPort]), ['v4.base64.channel.k8s.io']);
    await client?.send(`0${Buffer.from('typed').toString('base64')}`);
    const came = () =>
      client?.messages
        .filter(({ bytes }) => bytes[0] === 0x30)
        .map(({ bytes }) => Buffer.from(bytes.toString('latin1', 1), 'base64').toString('latin1'))
        .join('') ?? '';
    await until('it comes back', () => (came().endsWith('typed') ? true : undefined));
    client?.close();
    await client?.closed;
  });
});
