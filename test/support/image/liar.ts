// Registries that behave as no real one can be made to: they stall, lie, break off, redirect in circles. Each
// serves the images it is given and lets a test take over any request.
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Blob, Image } from './make-image.ts';

export interface Liar {
  address: string;
  /** Method, path and what was sent as Authorization, in order. */
  requests: { method: string; path: string; headers: IncomingMessage['headers'] }[];
  /** Serves a document or blob under its digest, and under `tag` when given. */
  add(blob: Blob, tag?: string): void;
  addImage(image: Image, tag: string): void;
  /** Lets clients' connections go that are kept for a next request. */
  closeIdleConnections(): void;
  close(): Promise<void>;
}

/** Returns true when it has answered. */
export type TakeOver = (
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
) => boolean | Promise<boolean>;

/** Starts a registry on a free loopback port; over TLS when given certificate and key. */
export async function startLiar(
  takeOver: TakeOver = () => false,
  tls?: { cert: string; key: string },
): Promise<Liar> {
  const blobs = new Map<string, Blob>();
  const requests: Liar['requests'] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const { pathname: path } = new URL(request.url ?? '/', 'http://x');
    requests.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
    if (await takeOver(request, response, path)) return;
    const reference = path.slice(path.lastIndexOf('/') + 1);
    const found = blobs.get(reference);
    if (!found) {
      response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
      return;
    }
    sendBlob(request, response, found);
  };
  const server = tls ? https.createServer(tls, listener) : http.createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    add(blob, tag) {
      blobs.set(blob.digest, blob);
      if (tag !== undefined) blobs.set(tag, blob);
    },
    addImage(image, tag) {
      for (const blob of [image.config, ...image.layers]) blobs.set(blob.digest, blob);
      blobs.set(image.manifest.digest, image.manifest);
      blobs.set(tag, image.manifest);
    },
    closeIdleConnections: () => server.closeIdleConnections(),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Answers as an honest registry would, ranges included. */
export function sendBlob(request: IncomingMessage, response: ServerResponse, blob: Blob): void {
  const range = /^bytes=([0-9]+)-$/.exec(request.headers.range ?? '');
  const from = range ? Number(range[1]) : 0;
  response.writeHead(range ? 206 : 200, {
    'content-type': blob.mediaType,
    'content-length': blob.size - from,
    'docker-content-digest': blob.digest,
    ...(range ? { 'content-range': `bytes ${from}-${blob.size - 1}/${blob.size}` } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : blob.bytes.subarray(from));
}
