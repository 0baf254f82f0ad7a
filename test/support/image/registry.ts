// Debian's docker-registry on loopback, as tests and benchmarks need it: plain, with TLS, with basic or token
// authorization; and what is needed to put images into it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../node.ts';
import type { Blob, Image } from './make-image.ts';

export interface RegistryOptions {
  /** Certificate and key files: serves TLS. */
  tls?: { certificate: string; key: string };
  /** A file of htpasswd (bcrypt): asks for basic authorization. */
  htpasswd?: string;
  /** Asks for tokens signed by the key of `bundle`. */
  token?: { realm: string; service: string; issuer: string; bundle: string };
}

export interface TestRegistry {
  /** `127.0.0.1:PORT` */
  address: string;
  url: string;
  stop(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts a registry on a free port with an empty store of its own. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'cri-ts-registry-'));
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const config = {
    version: '0.1',
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory, 'data') }, delete: { enabled: true } },
    http: { addr: address, ...(options.tls ? { tls: options.tls } : {}) },
    ...(options.htpasswd ? { auth: { htpasswd: { realm: 'test', path: options.htpasswd } } } : {}),
    ...(options.token ? { auth: { token: tokenSection(options.token) } } : {}),
  };
  // YAML is a superset of JSON.
  await writeFile(join(directory, 'config.yml'), JSON.stringify(config));
  const child = spawn('docker-registry', ['serve', join(directory, 'config.yml')], { stdio: 'ignore' });
  await answering(port, child);
  return {
    address,
    url: `${options.tls ? 'https' : 'http'}://${address}`,
    async stop() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await exited;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function tokenSection({ realm, service, issuer, bundle }: NonNullable<RegistryOptions['token']>) {
  return { realm, service, issuer, rootcertbundle: bundle };
}

async function answering(port: number, child: ChildProcess): Promise<void> {
  await until('docker-registry answers', async () => {
    if (child.exitCode !== null) throw new Error(`docker-registry ended with ${child.exitCode}`);
    const up = await new Promise<boolean>(resolve => {
      const request = http.get({ host: '127.0.0.1', port, path: '/' });
      request.once('response', response => {
        response.resume();
        resolve(true);
      });
      // A TLS server answers a plain request with something that is no HTTP: it is up all the same.
      request.once('error', error => resolve(Reflect.get(error, 'code') !== 'ECONNREFUSED'));
    });
    return up || undefined;
  });
}

export interface PushOptions {
  authorization?: string;
  /** CA certificate (PEM) of a TLS registry. */
  ca?: string;
}

/** Pushes an image with its layers and config; further documents (an index) come by `pushManifest`. */
export async function pushImage(
  registry: TestRegistry,
  repository: string,
  tag: string,
  image: Image,
  options: PushOptions = {},
): Promise<void> {
  for (const blob of [image.config, ...image.layers]) await pushBlob(registry, repository, blob, options);
  await pushManifest(registry, repository, image.manifest.digest, image.manifest, options);
  await pushManifest(registry, repository, tag, image.manifest, options);
}

export async function pushBlob(
  registry: TestRegistry,
  repository: string,
  blob: Blob,
  options: PushOptions = {},
): Promise<void> {
  const begun = await send(`${registry.url}/v2/${repository}/blobs/uploads/`, 'POST', {}, undefined, options);
  const location = new URL(begun.headers.location ?? '', registry.url);
  location.searchParams.set('digest', blob.digest);
  await send(location.href, 'PUT', { 'content-type': 'application/octet-stream' }, blob.bytes, options);
}

export async function pushManifest(
  registry: TestRegistry,
  repository: string,
  reference: string,
  manifest: Blob,
  options: PushOptions = {},
): Promise<void> {
  await send(
    `${registry.url}/v2/${repository}/manifests/${reference}`,
    'PUT',
    { 'content-type': manifest.mediaType },
    manifest.bytes,
    options,
  );
}

async function send(
  url: string,
  method: string,
  headers: Record<string, string>,
  body: Buffer | undefined,
  { authorization, ca }: PushOptions,
): Promise<IncomingMessage> {
  const all = {
    ...headers,
    ...(authorization ? { authorization } : {}),
    'content-length': String(body?.length ?? 0),
  };
  const request = url.startsWith('https:')
    ? https.request(url, { method, headers: all, ca })
    : http.request(url, { method, headers: all });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let said = '';
  for await (const chunk of response.setEncoding('utf8')) said += chunk;
  if ((response.statusCode ?? 0) >= 300) throw new Error(`${method} ${url}: ${response.statusCode} ${said}`);
  return response;
}
