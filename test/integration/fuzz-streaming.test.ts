// The streaming server, by raw TCP: spoilt handshakes, and SPDY and WebSocket frames that are spoilt, out of order or cut
// off, on real commands, attachments and ports. The daemon must live, let go of everything, and serve the next client.
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cgroupFile, inspect } from '../support/containers.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { createFuzz } from '../support/fuzz.ts';
import { startNode, type TestNode, until } from '../support/node.ts';
import { openRemote } from '../support/streaming/remote.ts';
import { speakSpdy } from '../support/streaming/spdy-client.ts';

const fuzz = createFuzz();
const { pick, chance, below } = fuzz;

let node: TestNode;
let before: Everything;
let pod: string;
let container: string;
let spdyFrames: Buffer[];
beforeAll(async () => {
  node = await startNode();
  mkdirSync(join(node.state, 'tty')); // as the first terminal leaves it, for good
  before = await afterOnePod(node);
  pod = await node.runPod();
  // It takes whatever attached clients type; a shell would end at its first syntax error.
  container = await node.runContainer(pod, '', { command: ['cat'], stdin: true });
  spdyFrames = await recordedSpdy();
});
afterAll(() => node.destroy());

/** What a right client says in a session, frame by frame. */
async function recordedSpdy(): Promise<Buffer[]> {
  const said: Buffer[] = [];
  const transport = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      said.push(Buffer.from(chunk));
      done();
    },
  });
  const client = speakSpdy(transport);
  client.settings(1000);
  await client.open({ streamtype: 'error' });
  const { duplex } = await client.open({ streamtype: 'stdin' });
  const stdout = await client.open({ streamtype: 'stdout' });
  duplex.write('echo x\n');
  void client.ping();
  await client.open({ streamtype: 'data', port: '80', requestid: '0' });
  await client.open({ streamtype: 'error', port: '80', requestid: '0' });
  stdout.reset(5);
  duplex.end();
  await sleep(20);
  return said;
}

function spdySession(): Buffer[] {
  if (chance(0.1)) return [fuzz.bytes(below(300))];
  const frames = chance(0.2) ? Array.from({ length: below(12) }, () => pick(spdyFrames)) : [...spdyFrames];
  return frames.map(frame => (chance(0.25) ? fuzz.spoilBytes(frame) : frame));
}

/** A frame of RFC 6455 whose every field may be wrong. */
function webSocketFrame(): Buffer {
  const payload = pick([
    () => Buffer.concat([Buffer.from([pick([0, 1, 2, 3, 4, 9, 255])]), fuzz.bytes(below(30))]),
    () => Buffer.from(`\x04${JSON.stringify({ Width: pick([80, -1, 1e9, 'x']), Height: 24 })}`),
    () => Buffer.from('\x00echo x\n'),
    () => fuzz.bytes(pick([0, 1, 125, 126, 200, 70_000])),
  ])();
  const first = (chance(0.9) ? 0x80 : 0) | (chance(0.05) ? 0x70 : 0) | pick([1, 2, 2, 2, 0, 8, 9, 10, 5]);
  const masked = chance(0.95) ? 0x80 : 0;
  const length = chance(0.95) ? payload.length : pick([0, 5, 0xffff, 2 ** 31, 2 ** 40]);
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = masked | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, masked ? Buffer.alloc(4) : Buffer.alloc(0), payload]);
}

function session(path: string, host: string): Buffer[] {
  const webSocket = chance(0.5);
  const lines = webSocket
    ? [
        `GET ${path} HTTP/1.1`,
        `Host: ${host}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        `Sec-WebSocket-Key: ${fuzz.bytes(16).toString('base64')}`,
        `Sec-WebSocket-Protocol: ${pick(['v4.channel.k8s.io', 'v5.channel.k8s.io', 'base64.channel.k8s.io', 'channel.k8s.io', 'SPDY/3.1+portforward.k8s.io'])}`,
      ]
    : [
        `POST ${path} HTTP/1.1`,
        `Host: ${host}`,
        'Connection: Upgrade',
        'Upgrade: SPDY/3.1',
        `X-Stream-Protocol-Version: ${pick(['v4.channel.k8s.io', 'v3.channel.k8s.io', 'v1.channel.k8s.io', 'portforward.k8s.io'])}`,
      ];
  const text = `${lines.join('\r\n')}\r\n\r\n`;
  const words = [
    '\r\n',
    ':',
    'Host: x\r\n',
    'Origin: null\r\n',
    'Content-Length: 5\r\n',
    'Transfer-Encoding: chunked\r\n',
    '\0',
    ' HTTP/9.9',
  ];
  const head = Buffer.from(chance(0.15) ? fuzz.spoilText(text, words) : text, 'latin1');
  const frames = webSocket ? Array.from({ length: below(8) }, webSocketFrame) : spdySession();
  return [head, ...frames];
}

/** Says it all, reads what comes or does not, and goes in one way or another. */
function speak(port: number, parts: readonly Buffer[]): Promise<void> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', async () => {
      if (chance(0.8)) socket.resume();
      for (const part of parts) {
        if (socket.destroyed) return;
        socket.write(part);
        if (chance(0.3)) await sleep(below(5));
      }
      await sleep(below(60));
      if (chance(0.3)) socket.end();
      else if (chance(0.5)) socket.resetAndDestroy();
      else socket.destroy();
      setTimeout(() => socket.destroy(), 500).unref();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve());
  });
}

async function freshUrl(): Promise<URL> {
  const wanted = { containerId: container, stdin: true, stdout: true };
  const ask = pick([
    () => node.cri.Exec({ ...wanted, cmd: ['cat'], tty: chance(0.3) }),
    () => node.cri.Exec({ ...wanted, cmd: ['yes'], stderr: true }),
    () => node.cri.Attach({ ...wanted, tty: false }),
    () => node.cri.PortForward({ podSandboxId: pod, port: chance(0.5) ? [80] : [] }),
  ]);
  for (;;) {
    const answer = await ask().catch((error: { code?: number }) => error);
    if ('url' in answer) return new URL(answer.url);
    // Handshakes that were spoilt leave their URLs unused, each for a minute, and there may be so many and no more.
    if (answer.code !== status.RESOURCE_EXHAUSTED) throw await withContainer(answer);
    await sleep(500);
  }
}

/** The error, with what has become of the container that all sessions are about. */
async function withContainer(error: unknown): Promise<Error> {
  const answer = await node.cri.ContainerStatus({ containerId: container });
  const { state, exitCode, reason, finishedAt } = answer.status ?? {};
  const left = JSON.stringify({ state, exitCode, reason, finishedAt }, (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  );
  return new Error(`${error instanceof Error ? error.message : error}; the container: ${left}`, {
    cause: error,
  });
}

const resident = () =>
  Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${node.pid()}/status`, 'latin1'))?.[1]) / 1024;
const descriptors = () => readdirSync(`/proc/${node.pid()}/fd`).length;

describe(`with seed ${fuzz.seed}`, () => {
  it('clients that speak nonsense end nothing but themselves', { timeout: 3_600_000 }, async () => {
    const { pid } = await inspect(node, container);
    const processes = () => cgroupFile(pid, 'memory', 'cgroup.procs').split('\n');
    const [daemon, openBefore, processesBefore] = [node.pid(), descriptors(), processes()];
    let most = 0;
    const sessions = await fuzz.during(5, async () => {
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          const { pathname, port, host } = await freshUrl();
          await speak(Number(port), session(pathname, host));
        }),
      );
      expect((await node.cri.Version()).runtimeName).toBe('cri-ts');
      most = Math.max(most, resident());
    });
    console.log(
      `fuzzed streaming: ${sessions * 4} sessions, seed ${fuzz.seed}, ${Math.round(most)} MiB resident at most`,
    );
    expect(most).toBeLessThan(400);
    expect(process.kill(daemon, 0)).toBe(true);

    // Commands end with their clients, and descriptors are given back.
    await until('the commands have ended', () => processes().length <= processesBefore.length || undefined);
    await until('descriptors are given back', () => descriptors() <= openBefore + 2 || undefined);
    const { url } = await node.cri.Exec({ containerId: container, cmd: ['echo', 'served'], stdout: true });
    const { stream, status: outcome } = await openRemote(url);
    let text = '';
    stream('stdout').on('data', (chunk: Buffer) => (text += chunk));
    expect(await outcome).toMatchObject({ status: 'Success' });
    expect(text).toBe('served\n');
    await untilAsBefore(node, before);
  });
});
