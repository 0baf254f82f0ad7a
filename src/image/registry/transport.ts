// HTTP to registries: HTTP/1.1 with keep-alive, TLS with the host's own settings, through a proxy when there
// is one. One a thread; it knows nothing of registries but how to reach a URL.
import { existsSync, readFileSync } from 'node:fs';
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { type Duplex, PassThrough } from 'node:stream';
import tls, { type SecureContext } from 'node:tls';
import { CriError } from '../../errors.ts';
import type { TlsSettings } from './types.ts';

export interface HttpRequest {
  readonly url: URL;
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body?: string | undefined;
  readonly tls: TlsSettings;
  readonly proxy: URL | undefined;
  readonly dialTimeoutMs: number;
  readonly signal: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Must be read to its end or destroyed. */
  readonly body: IncomingMessage;
}

export interface Transport {
  /** One exchange, without redirects. Resolves when the head of the response is there. @throws Error with a `code` */
  send(request: HttpRequest): Promise<HttpResponse>;
  close(): void;
}

/** From the request to the head of the response. */
const headTimeoutMs = 30_000;
const idleSocketMs = 30_000;

export function createTransport(): Transport {
  const agents = new Map<string, http.Agent>();

  function agentFor({ url, tls: settings, proxy }: HttpRequest): http.Agent {
    const secure = url.protocol === 'https:';
    const key = JSON.stringify([secure, secure ? settings : null, proxy?.href ?? null]);
    const existing = agents.get(key);
    if (existing) return existing;
    const options = { keepAlive: true, timeout: idleSocketMs, scheduling: 'lifo' as const };
    const agent = secure ? secureAgent(options, tlsConnection(settings), proxy) : new http.Agent(options);
    agents.set(key, agent);
    return agent;
  }

  return {
    send(request) {
      const { url, method, headers, body, proxy, signal } = request;
      const plainProxy = proxy && url.protocol === 'http:' ? proxy : undefined;
      const target = plainProxy ?? url;
      const options = {
        method,
        signal,
        agent: agentFor(request),
        host: target.hostname.replace(/^\[|\]$/g, ''),
        port: target.port || (target.protocol === 'https:' ? 443 : 80),
        path: plainProxy ? url.href : `${url.pathname}${url.search}`,
        headers: { host: url.host, ...headers, ...(plainProxy ? proxyAuthorization(plainProxy) : {}) },
        tunnel: { signal, timeoutMs: request.dialTimeoutMs } satisfies TunnelLimits,
      };
      return new Promise((resolve, reject) => {
        const sent = url.protocol === 'https:' ? https.request(options) : http.request(options);
        const headTimer = setTimeout(() => {
          sent.destroy(failure('ETIMEDOUT', `no answer within ${headTimeoutMs / 1000} s`));
        }, headTimeoutMs);
        limitDialing(sent, request.dialTimeoutMs);
        sent.once('response', response => {
          clearTimeout(headTimer);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response });
        });
        sent.once('error', error => {
          clearTimeout(headTimer);
          reject(error);
        });
        sent.end(body);
      });
    },
    close() {
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

function secureAgent(
  options: https.AgentOptions,
  connection: TlsConnection,
  proxy: URL | undefined,
): https.Agent {
  return proxy ? new TunnelAgent(options, connection, proxy) : new https.Agent({ ...options, ...connection });
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function limitDialing(request: http.ClientRequest, milliseconds: number): void {
  request.once('socket', socket => {
    if (!socket.connecting) return;
    const timer = setTimeout(() => {
      request.destroy(failure('ETIMEDOUT', `no connection within ${milliseconds / 1000} s`));
    }, milliseconds);
    const stop = () => clearTimeout(timer);
    socket.once('connect', stop);
    socket.once('close', stop);
  });
}

/** The CA bundle of the distribution, as other programs on the node trust it; Node by itself brings its own. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

interface TlsConnection {
  secureContext: SecureContext;
  rejectUnauthorized: boolean;
}

function tlsConnection({ ca, client, skipVerify }: TlsSettings): TlsConnection {
  const bundle = [process.env.SSL_CERT_FILE, ...systemBundles].find(path => path && existsSync(path));
  const trusted = bundle === undefined ? [...tls.rootCertificates] : [readFileSync(bundle, 'utf8')];
  try {
    const secureContext = tls.createSecureContext({
      ca: [...trusted, ...ca],
      cert: client.map(pair => pair.cert),
      key: client.map(pair => pair.key),
    });
    return { secureContext, rejectUnauthorized: !skipVerify };
  } catch (error) {
    throw new CriError('invalidArgument', 'the certificates configured for the registry cannot be read', {
      cause: error,
    });
  }
}

/** Value of an Authorization header (RFC 7617). */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function proxyAuthorization(proxy: URL): Record<string, string> {
  if (proxy.username === '') return {};
  const [username, password] = [decodeURIComponent(proxy.username), decodeURIComponent(proxy.password)];
  return { 'proxy-authorization': basicAuthorization(username, password) };
}

/** What ends the attempt to make a tunnel: a request that has no connection yet does not end when it is destroyed. */
interface TunnelLimits {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** An https agent that reaches its hosts through a CONNECT tunnel of a proxy (RFC 9110, 9.3.6). */
class TunnelAgent extends https.Agent {
  readonly #proxy: URL;
  readonly #tls: TlsConnection;

  constructor(options: https.AgentOptions, connection: TlsConnection, proxy: URL) {
    super({ ...options, ...connection });
    this.#proxy = proxy;
    this.#tls = connection;
  }

  override createConnection(
    { host, port, tunnel }: http.ClientRequestArgs & { tunnel?: TunnelLimits },
    connected?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    const proxy = this.#proxy;
    const authority = `${host?.includes(':') ? `[${host}]` : host}:${port}`;
    // The callback's type wants a stream beside an error too; nobody looks at it.
    const fail = (error: Error) => connected?.(error, new PassThrough());
    const request = (proxy.protocol === 'https:' ? https : http).request({
      host: proxy.hostname,
      port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80),
      method: 'CONNECT',
      path: authority,
      headers: { host: authority, ...proxyAuthorization(proxy) },
      agent: false,
    });
    const giveUp = () =>
      request.destroy(failure('ETIMEDOUT', `proxy ${proxy.host} made no connection to ${authority}`));
    const timer = setTimeout(giveUp, tunnel?.timeoutMs ?? headTimeoutMs);
    tunnel?.signal.addEventListener('abort', giveUp);
    const settled = () => {
      clearTimeout(timer);
      tunnel?.signal.removeEventListener('abort', giveUp);
    };
    request.once('close', settled);
    request.once('connect', (response, socket) => {
      settled();
      if (response.statusCode === 200) {
        connected?.(null, tls.connect({ ...this.#tls, socket, ...(host ? { servername: host } : {}) }));
        return;
      }
      socket.destroy();
      fail(
        failure('EPROXY', `proxy ${proxy.host} refused to connect to ${authority}: ${response.statusCode}`),
      );
    });
    request.once('error', fail);
    request.end();
    if (tunnel?.signal.aborted) giveUp();
    return undefined;
  }
}
