import { X509Certificate } from 'node:crypto';
import { connect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { selfSignedCertificate } from '../../../src/streaming/self-signed.ts';
import type { StreamingServer } from '../../../src/streaming/server.ts';
import { createTokens, tokenLifetimeMs } from '../../../src/streaming/tokens.ts';
import { requestUpgrade } from '../../support/streaming/http-upgrade.ts';
import { connectSpdy, textOf } from '../../support/streaming/spdy-client.ts';
import { connectWebSocket } from '../../support/streaming/websocket-client.ts';
import { execRequest, startServer } from './fixture.ts';

const servers: StreamingServer[] = [];
const start: typeof startServer = async (...args) => {
  const server = await startServer(...args);
  servers.push(server);
  return server;
};
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

const spdy = { Connection: 'Upgrade', Upgrade: 'SPDY/3.1', 'X-Stream-Protocol-Version': 'v4.channel.k8s.io' };
const exits = { exec: async () => 0 };

describe('a streaming URL', () => {
  it('holds 128 random bits and leads to the server itself', async () => {
    const server = await start(exits);
    const [one, two] = [server.execUrl(execRequest()), server.execUrl(execRequest())];
    expect(one).not.toBe(two);
    const { pathname, origin } = new URL(one);
    expect(origin).toBe(server.baseUrl);
    expect(Buffer.from(pathname.replace('/exec/', ''), 'base64url')).toHaveLength(16);
  });

  const { command: _, ...attachRequest } = execRequest();
  const actions = [
    ['exec', (server: StreamingServer) => server.execUrl(execRequest()), 'v4.channel.k8s.io'],
    ['attach', (server: StreamingServer) => server.attachUrl(attachRequest), 'v4.channel.k8s.io'],
    [
      'port-forward',
      (server: StreamingServer) => server.portForwardUrl({ sandboxId: 'p1', ports: [80] }),
      '',
    ],
  ] as const;
  const uses = actions.flatMap(([action, urlOf, protocol]) => {
    const ways = {
      SPDY: (url: string) => connectSpdy(url, [protocol || 'portforward.k8s.io']),
      WebSocket: (url: string) => connectWebSocket(url, [protocol || 'v4.channel.k8s.io']),
    };
    return Object.entries(ways).flatMap(([first, one]) =>
      Object.entries(ways).map(([then, other]) => ({ action, urlOf, first, one, then, other })),
    );
  });
  it.each(uses)('is good for one client: $action by $first, then by $then', async ({ urlOf, one, other }) => {
    const server = await start({ ...exits, attach: async () => {} });
    const url = urlOf(server);
    expect((await one(url)).status).toBe(101);
    expect((await other(url)).status).toBe(404);
  });

  it('is good for one of many clients that come at once', async () => {
    const server = await start(exits);
    const url = server.execUrl(execRequest());
    const clients = Array.from({ length: 20 }, (_, i) =>
      i % 2 === 0 ? connectSpdy(url, ['v4.channel.k8s.io']) : connectWebSocket(url, ['v4.channel.k8s.io']),
    );
    const statuses = (await Promise.all(clients)).map(({ status }) => status).sort();
    expect(statuses).toEqual([101, ...Array(19).fill(404)]);
  });

  it('stays good when the first try asks for what is not served', async () => {
    const server = await start(exits);
    const url = server.execUrl(execRequest());
    expect((await connectWebSocket(url, ['v9.channel.k8s.io'])).status).toBe(403);
    expect((await requestUpgrade(url, { method: 'POST', headers: spdy })).status).toBe(101);
  });

  it('is good for the action it was made for alone', async () => {
    const server = await start(exits);
    const url = server.execUrl(execRequest()).replace('/exec/', '/attach/');
    expect((await requestUpgrade(url, { method: 'POST', headers: spdy })).status).toBe(404);
    expect((await requestUpgrade(`${server.baseUrl}/exec/`, { method: 'POST', headers: spdy })).status).toBe(
      404,
    );
    expect((await requestUpgrade(`${server.baseUrl}/`, { method: 'POST', headers: spdy })).status).toBe(404);
  });

  it('is refused to browsers, to other methods and to plain requests', async () => {
    const server = await start(exits);
    const url = server.execUrl(execRequest());
    const origin = { ...spdy, Origin: 'http://evil.example' };
    expect(await requestUpgrade(url, { method: 'POST', headers: origin })).toMatchObject({ status: 403 });
    expect(await connectWebSocket(url, [], { headers: { Origin: 'null' } })).toMatchObject({ status: 403 });
    const put = await requestUpgrade(url, { method: 'PUT', headers: spdy });
    expect(put).toMatchObject({ status: 405, headers: { allow: 'GET, POST' } });
    expect(await requestUpgrade(url, { method: 'DELETE', headers: {} })).toMatchObject({ status: 405 });
    expect(await requestUpgrade(url, { headers: {} })).toMatchObject({ status: 400 });
    const h2c = { Connection: 'Upgrade', Upgrade: 'h2c' };
    expect(await requestUpgrade(url, { headers: h2c })).toMatchObject({ status: 400 });
    // None of these used it up.
    expect((await requestUpgrade(url, { method: 'POST', headers: spdy })).status).toBe(101);
  });

  it('is refused under a name that somebody has made point here', async () => {
    const server = await start(exits);
    const url = server.execUrl(execRequest());
    const asked = (Host: string) => requestUpgrade(url, { method: 'POST', headers: { ...spdy, Host } });
    for (const host of [
      'evil.example',
      'evil.example:80',
      '127.0.0.1.evil.example',
      '[127.0.0.1]',
      '127.0.0',
    ]) {
      expect(await asked(host), host).toMatchObject({ status: 421 });
    }
    expect(await requestUpgrade(url, { headers: { Host: 'evil.example' } })).toMatchObject({ status: 421 });
    expect(await asked('[fd00::12]:1234')).toMatchObject({ status: 101 }); // the first did not use it up
    for (const host of ['localhost', 'localhost:1', '10.0.0.1:99', '[::1]']) {
      const other = server.execUrl(execRequest());
      expect(
        await requestUpgrade(other, { method: 'POST', headers: { ...spdy, Host: host } }),
        host,
      ).toMatchObject({ status: 101 });
    }
  });

  it('is not made for what makes no sense', async () => {
    const server = await start(exits);
    expect(() => server.execUrl(execRequest({ tty: true, stderr: true }))).toThrow(/terminal has one output/);
    const nothing = { containerId: 'c', stdin: false, stdout: false, stderr: false, tty: false };
    expect(() => server.attachUrl(nothing)).toThrow(/at least one/);
  });
});

describe('a client that speaks nonsense', () => {
  /** Sends all at once and gathers what comes, until the connection is closed. */
  const answerTo = (url: string, ...parts: (string | Buffer)[]) =>
    new Promise<string>(resolve => {
      const { port, pathname } = new URL(url);
      let text = '';
      const socket = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true }, () => {
        const head = `GET ${pathname} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n`;
        socket.write(Buffer.concat([Buffer.from(head), ...parts.map(part => Buffer.from(part))]));
      });
      socket.on('data', chunk => (text += chunk.toString('latin1')));
      socket.on('end', () => socket.end());
      socket.on('error', () => {});
      socket.on('close', () => resolve(text));
    });
  const webSocket = `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n\r\n`;

  it('together with its request is broken off, and the next is served', async () => {
    const server = await start({ exec: () => new Promise(() => {}) });
    const reserved = Buffer.from([0xff, 0xff, 0xff, 0xff]);
    expect(await answerTo(server.execUrl(execRequest()), webSocket, reserved)).toContain('101');
    expect((await connectSpdy(server.execUrl(execRequest()), ['v4.channel.k8s.io'])).status).toBe(101);
  });

  it('is heard from its first word, which may come together with its request', async () => {
    let hear = (_: string) => {};
    const heard = new Promise<string>(resolve => (hear = resolve));
    const server = await start({
      async exec({ stdin }) {
        stdin?.once('data', chunk => hear(String(chunk)));
        return new Promise(() => {});
      },
    });
    const hello = Buffer.from([0x82, 0x86, 0, 0, 0, 0, 0, ...Buffer.from('hello')]);
    void answerTo(server.execUrl(execRequest({ stdin: true })), webSocket, hello);
    expect(await heard).toBe('hello');
  });

  it('and was refused is not waited for', async () => {
    const server = await start(exits);
    const text = await answerTo(`${server.baseUrl}/exec/unknown`, webSocket, 'x'.repeat(100_000));
    expect(text).toContain('404');
  });
});

describe('protocol negotiation', () => {
  it('takes the first protocol on the list of the client that is served', async () => {
    const server = await start(exits);
    const answer = await connectSpdy(server.execUrl(execRequest()), [
      'v5.channel.k8s.io',
      'v3.channel.k8s.io',
      'v4.channel.k8s.io',
    ]);
    expect(answer.headers['x-stream-protocol-version']).toBe('v3.channel.k8s.io');
    const socket = await connectWebSocket(server.execUrl(execRequest()), [
      'v9.channel.k8s.io',
      'v5.channel.k8s.io',
      'v4.channel.k8s.io',
    ]);
    expect(socket.headers['sec-websocket-protocol']).toBe('v5.channel.k8s.io');
  });

  it('names what is served when nothing fits', async () => {
    const server = await start(exits);
    const answer = await connectSpdy(server.execUrl(execRequest()), ['v9.channel.k8s.io']);
    expect(answer.status).toBe(403);
    expect(answer.headers['x-accepted-stream-protocol-versions']).toContain('v4.channel.k8s.io');
    expect((await connectSpdy(server.execUrl(execRequest()), [])).status).toBe(403);
  });
});

describe('tokens', () => {
  it('expire after a minute', () => {
    let now = 0;
    const tokens = createTokens<string>(() => now);
    const early = tokens.issue('a');
    now = 1000;
    const late = tokens.issue('b');
    now = tokenLifetimeMs - 1;
    expect(tokens.peek(early)).toBe('a');
    now = tokenLifetimeMs;
    expect(tokens.peek(early)).toBeUndefined();
    expect(tokens.peek(late)).toBe('b');
  });

  it('are bounded in number, until old ones expire or are used', () => {
    let now = 0;
    const tokens = createTokens<number>(() => now);
    const issued = Array.from({ length: 1000 }, (_, i) => tokens.issue(i));
    expect(() => tokens.issue(1)).toThrow(expect.objectContaining({ kind: 'resourceExhausted' }));
    tokens.use(issued[500] ?? '');
    tokens.issue(1);
    now = tokenLifetimeMs;
    for (let i = 0; i < 1000; i++) tokens.issue(i);
  });
});

describe('streaming over TLS', () => {
  it('makes a certificate for its addresses that verifies', () => {
    const { cert, key } = selfSignedCertificate(['127.0.0.1', 'fd00::12', 'localhost']);
    const certificate = new X509Certificate(cert);
    expect(certificate.checkIP('127.0.0.1')).toBe('127.0.0.1');
    expect(certificate.checkIP('fd00::12')).toBe('fd00::12');
    expect(certificate.checkHost('localhost')).toBe('localhost');
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(new Date(certificate.validTo).getTime()).toBeGreaterThan(Date.now());
    expect(key).toContain('PRIVATE KEY');
  });

  it('serves SPDY and WebSocket to clients that trust it', async () => {
    const server = await start(exits, { tls: 'self-signed' });
    expect(server.baseUrl).toMatch(/^https:/);
    const { port } = new URL(server.baseUrl);
    const ca = await new Promise<string>(resolve => {
      const socket = tlsConnect({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false }, () => {
        resolve(new X509Certificate(socket.getPeerCertificate().raw).toString());
        socket.destroy();
      });
    });
    const { client } = await connectSpdy(server.execUrl(execRequest()), ['v4.channel.k8s.io'], { ca });
    const error = await client?.open({ streamtype: 'error' });
    await client?.open({ streamtype: 'stdout' });
    expect(JSON.parse(await textOf(error?.duplex))).toMatchObject({ status: 'Success' });
    client?.close();
    const socket = await connectWebSocket(server.execUrl(execRequest()), ['v5.channel.k8s.io'], { ca });
    expect(await socket.client?.until(3, text => text !== '')).toContain('"Success"');
  });
});
