// The registry client against registries that lie, without workers and stores around it.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { credentialsByHost } from '../../../src/image/registry/auth.ts';
import { createRegistryClient, type RegistryClient } from '../../../src/image/registry/client.ts';
import { fetchBlob } from '../../../src/image/registry/fetch-blob.ts';
import { registryHosts } from '../../../src/image/registry/hosts.ts';
import { createTransport, type Transport } from '../../../src/image/registry/transport.ts';
import type { RegistryAccess } from '../../../src/image/registry/types.ts';
import { type Liar, startLiar, type TakeOver } from '../../support/image/liar.ts';
import { blobOf } from '../../support/image/make-image.ts';

const { signal } = new AbortController();
const blob = blobOf(Buffer.from('{"some":"document"}'), 'application/octet-stream');
let transport: Transport;
const liars: Liar[] = [];
beforeEach(() => {
  transport = createTransport();
});
afterEach(async () => {
  transport.close();
  await Promise.all(liars.splice(0).map(liar => liar.close()));
});

async function serve(takeOver?: TakeOver): Promise<Liar> {
  const liar = await startLiar(takeOver);
  liar.add(blob, 'latest');
  liars.push(liar);
  return liar;
}

async function accessTo(liar: Liar, settings: Partial<RegistryAccess> = {}): Promise<RegistryAccess> {
  return {
    registry: liar.address,
    repository: 'app',
    hosts: await registryHosts(liar.address, []),
    credentials: {},
    headers: [],
    proxy: { http: undefined, https: undefined, no: undefined },
    progressTimeoutMs: undefined,
    grants: {},
    plainHosts: [],
    ...settings,
  };
}

async function clientOf(liar: Liar, settings: Partial<RegistryAccess> = {}): Promise<RegistryClient> {
  return createRegistryClient(await accessTo(liar, settings), transport);
}

describe('a host that a registry redirects to', () => {
  it.each(['Basic realm="r"', 'Bearer realm="REALM",service="s"'])(
    'gets no credentials for its challenge %s',
    async challenge => {
      const realm = await serve();
      const other = await serve((_, response) => {
        const named = challenge.replace('REALM', `http://${realm.address}/token`);
        response.writeHead(401, { 'www-authenticate': named }).end();
        return true;
      });
      const liar = await serve((_, response) => {
        response.writeHead(307, { location: `http://${other.address}/elsewhere` }).end();
        return true;
      });
      const client = await clientOf(liar, {
        credentials: { [liar.address]: { username: 'user', password: 'secret' } },
      });
      await expect(client.document(blob.digest, signal)).rejects.toMatchObject({
        kind: 'unauthenticated',
        message: expect.stringContaining(
          `to http://${other.address}, which asks for credentials: they are not sent there`,
        ),
      });
      expect(realm.requests).toEqual([]);
      expect(liar.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
      expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    },
  );
});

it('a configured header with several values is sent with all of them', async () => {
  const liar = await serve();
  const access = await accessTo(liar, { headers: [['X-Team', 'a']] });
  const more = [
    ['x-team', 'b'],
    ['x-team', 'c'],
    ['x-one', '1'],
  ] as const;
  const hosts = access.hosts.map(host => ({ ...host, headers: more }));
  await createRegistryClient({ ...access, hosts }, transport).document(blob.digest, signal);
  expect(liar.requests[0]?.headers).toMatchObject({ 'x-team': 'a, b, c', 'x-one': '1' });
});

describe('a blob', () => {
  const large = blobOf(Buffer.alloc(500, 'x'), 'application/octet-stream');

  async function fetchFrom(liar: Liar, from: number, progressTimeoutMs = 10_000): Promise<Buffer> {
    liar.add(large);
    const access = await accessTo(liar, { progressTimeoutMs });
    const source = { kind: 'registry', access, digest: large.digest, size: large.size } as const;
    const chunks: Buffer[] = [];
    for await (const chunk of fetchBlob(source, from, { transport, signal })) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  it('of which each connection brings a byte is given up', async () => {
    const liar = await serve(({ headers }, response) => {
      const from = Number(/[0-9]+/.exec(headers.range ?? '0')?.[0]);
      response.writeHead(206, {
        'content-length': large.size - from,
        'content-range': `bytes ${from}-${large.size - 1}/${large.size}`,
      });
      response.write('x', () => setTimeout(() => response.destroy(), 50));
      return true;
    });
    await expect(fetchFrom(liar, 0)).rejects.toThrow(
      new RegExp(`^RegistryUnavailable: .*stopped sending blob ${large.digest} after [0-9] of 500 bytes`),
    );
    expect(liar.requests.length).toBeLessThan(10);
  }, 30_000);

  it('is given up when its bodies together stand still for the progress timeout', async () => {
    const liar = await serve((_, response) => {
      response.writeHead(206, { 'content-length': 500, 'content-range': 'bytes 0-499/500' });
      response.flushHeaders();
      setTimeout(() => response.destroy(), 900);
      return true;
    });
    await expect(fetchFrom(liar, 0, 1500)).rejects.toThrow(/sent 0 bytes within 1500 ms/);
    expect(liar.requests).toHaveLength(2);
  }, 20_000);

  it('is waited for longer than the progress timeout until its registry begins to send', async () => {
    const liar = await serve(async () => {
      await sleep(800);
      return false;
    });
    expect(await fetchFrom(liar, 0, 400)).toEqual(large.bytes);
  });

  it.each([416, 400, 403])('of which no range is given (%i) is fetched whole, once', async status => {
    const liar = await serve(({ headers }, response) => {
      if (headers.range === undefined) return false;
      response.writeHead(status).end();
      return true;
    });
    expect(await fetchFrom(liar, 200)).toEqual(large.bytes.subarray(200));
    expect(liar.requests.map(({ headers }) => headers.range)).toEqual(['bytes=200-', undefined]);
  });

  it('of which another range is given than was asked for is fetched whole', async () => {
    const liar = await serve(({ headers }, response) => {
      if (headers.range === undefined) return false;
      response.writeHead(206, { 'content-range': 'bytes 0-499/500' }).end(large.bytes);
      return true;
    });
    expect(await fetchFrom(liar, 200)).toEqual(large.bytes.subarray(200));
  });
});

describe('a mirror', () => {
  const auth = { username: 'user', password: 'secret' };
  const challenge: TakeOver = ({ headers }, response) => {
    if (headers.authorization !== undefined) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
    return true;
  };

  /** Asks for a document with the mirror before the upstream; tells which of them got credentials. */
  async function ask(serverAddress: (upstream: string, mirror: string) => string | undefined) {
    const [mirror, upstream] = [await serve(challenge), await serve(challenge)];
    const hosts = [mirror, upstream].map(({ address }) => registryHosts(address, []));
    const all = (await Promise.all(hosts)).flat();
    const named = serverAddress(upstream.address, mirror.address);
    const credentials = credentialsByHost({ ...auth, ...(named ? { serverAddress: named } : {}) }, all);
    const client = await clientOf(upstream, { hosts: all, credentials });
    await client.document(blob.digest, signal);
    const got = ({ requests }: Liar) => requests.some(({ headers }) => headers.authorization !== undefined);
    return { mirror: got(mirror), upstream: got(upstream) };
  }

  it('gets no credentials that are for the upstream by name', async () => {
    expect(await ask(upstream => `https://${upstream}/v1/`)).toEqual({ mirror: false, upstream: true });
  });

  it('gets the credentials that name it, and those that name nobody', async () => {
    expect(await ask((_, mirror) => mirror)).toEqual({ mirror: true, upstream: false });
    expect(await ask(() => undefined)).toEqual({ mirror: true, upstream: false });
  });
});

describe('a proxy that answers no CONNECT', () => {
  let proxy: Server;
  const sockets = new Set<Socket>();
  beforeEach(async () => {
    proxy = createServer(socket => {
      sockets.add(socket);
      socket.resume().once('close', () => sockets.delete(socket));
      socket.on('error', () => {});
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
  });
  afterEach(() => proxy.close());

  const send = (dialTimeoutMs: number, until: AbortSignal) =>
    transport.send({
      url: new URL('https://registry.example/v2/'),
      method: 'GET',
      headers: {},
      tls: { ca: [], client: [], skipVerify: false },
      proxy: new URL(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}`),
      dialTimeoutMs,
      signal: until,
    });

  it('is left when the time for connecting is over', async () => {
    await expect(send(300, signal)).rejects.toThrow(/proxy .* made no connection to registry.example:443/);
    await expect.poll(() => sockets.size).toBe(0);
  });

  it('is left when whoever asked goes away', async () => {
    const controller = new AbortController();
    const sent = send(60_000, controller.signal);
    sent.catch(() => {});
    await expect.poll(() => sockets.size).toBe(1);
    controller.abort();
    await expect(sent).rejects.toThrow();
    await expect.poll(() => sockets.size).toBe(0);
  });
});

describe('a refusal', () => {
  it('whose text never comes is told without it', async () => {
    const liar = await serve((_, response) => {
      response.writeHead(404, { 'content-length': 100 }).write('no');
      return true;
    });
    const began = Date.now();
    await expect((await clientOf(liar)).document(blob.digest, signal)).rejects.toMatchObject({
      kind: 'notFound',
    });
    expect(Date.now() - began).toBeLessThan(20_000);
  }, 30_000);

  it('that repeats the credentials is told without them', async () => {
    const liar = await serve(({ headers }, response) => {
      if (headers.authorization === undefined)
        response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
      else {
        const decoded = Buffer.from(headers.authorization.slice('Basic '.length), 'base64').toString();
        const echo = { said: 'no', yours: headers, decoded };
        response.writeHead(403).end(JSON.stringify(echo));
      }
      return true;
    });
    const client = await clientOf(liar, {
      credentials: { [liar.address]: { username: 'user', password: 'the "secret"' } },
      headers: [['x-api-key', 'another-secret']],
    });
    const error = await client.document(blob.digest, signal).catch(String);
    expect(error).toContain('denied access');
    expect(error).toContain('"said":"no"');
    expect(error).not.toMatch(/secret|dXNlcj/);
  });

  it('of a token server that repeats the credentials is told without them', async () => {
    const liar: Liar = await serve(({ headers }, response, path) => {
      if (path === '/token') response.writeHead(403).end(`you sent ${headers.authorization}`);
      else
        response
          .writeHead(401, { 'www-authenticate': `Bearer realm="http://${liar.address}/token",service="s"` })
          .end();
      return true;
    });
    const client = await clientOf(liar, {
      credentials: { [liar.address]: { username: 'user', password: 'secret' } },
    });
    await expect(client.document(blob.digest, signal)).rejects.toThrow('(you sent Basic [redacted])');
  });
});
