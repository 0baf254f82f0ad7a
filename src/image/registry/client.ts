// The registry client: the pull half of the OCI distribution specification. Knows hosts and mirrors, tokens,
// retries and redirects; what the bytes mean is its caller's business.
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { CriError, codeOf, messageOf } from '../../errors.ts';
import { acceptedManifests, maxDocumentBytes } from '../media-types.ts';
import { answerChallenge, parseChallenges } from './auth.ts';
import { proxyFor } from './proxy.ts';
import { redact, secretsOf } from './redact.ts';
import type { SendTokenRequest } from './token.ts';
import type { HttpResponse, Transport } from './transport.ts';
import type { RegistryAccess, RegistryHost } from './types.ts';

export interface RegistryResponse {
  response: HttpResponse;
  host: RegistryHost;
}

export interface RegistryClient {
  /**
   * Asks what a tag or digest stands for: HEAD on its manifest.
   * @returns undefined when the registry does not answer with digest and size, which it need not, or refuses: the
   * manifest itself tells more.
   */
  head(
    reference: string,
    signal: AbortSignal,
  ): Promise<{ digest: string; mediaType: string; size: number } | undefined>;
  /** The manifest behind a tag or digest. The bytes are not verified. */
  manifest(
    reference: string,
    signal: AbortSignal,
  ): Promise<{ bytes: Buffer; mediaType: string; digest: string | undefined; host: string }>;
  /** A small blob, whole. The bytes are not verified. */
  document(digest: string, signal: AbortSignal): Promise<Buffer>;
  /** Begins a blob at byte `from`; the response's status says whether the registry went along (206) or not (200). */
  blob(digest: string, from: number, signal: AbortSignal): Promise<RegistryResponse>;
}

const maxRedirects = 10;
const maxAttempts = 4;
const firstBackoffMs = 250;
const maxBackoffMs = 10_000;
const maxRetryAfterMs = 30_000;
const maxErrorBytes = 64 * 1024;
const maxErrorCharacters = 300;
const documentTimeoutMs = 60_000;
/** What a refusal says beside its status is worth so long a wait. */
const errorTextTimeoutMs = 5_000;

/** Errors that another attempt at once may not meet. A refused connection or unknown name is left to kubelet's own retry. */
const transient = new Set([
  'ECONNRESET',
  'EPIPE',
  'EAI_AGAIN',
  'ERR_STREAM_PREMATURE_CLOSE',
  'HPE_INVALID_EOF_STATE',
]);

/** The failure of one host; `rank` orders what is worth telling when all hosts failed. */
interface HostFailure {
  host: string;
  error: CriError;
  rank: number;
}

export function createRegistryClient(access: RegistryAccess, transport: Transport): RegistryClient {
  const scope = `repository:${access.repository}:pull`;

  /** Tries `path` on each host that may serve it, in order. */
  async function ask(
    what: string,
    capability: 'canResolve' | 'canPull',
    path: string,
    options: { method: 'GET' | 'HEAD'; headers: Record<string, string>; signal: AbortSignal },
  ): Promise<RegistryResponse> {
    const failures: HostFailure[] = [];
    for (const host of access.hosts.filter(each => each[capability])) {
      try {
        return await askHost(host, what, path, options);
      } catch (error) {
        options.signal.throwIfAborted();
        if (!(error instanceof CriError)) throw error;
        failures.push({ host: host.host, error, rank: rankOf(error) });
      }
    }
    const worst = failures.sort((a, b) => b.rank - a.rank)[0];
    if (!worst) {
      throw new CriError(
        'imageFailed',
        `${unavailable}: no host of registry ${access.registry} may be asked for ${what} (capabilities in hosts.toml)`,
      );
    }
    const others = failures.slice(1).map(({ host, error }) => `${host}: ${error.message}`);
    if (others.length === 0) throw worst.error;
    throw new CriError(
      worst.error.kind,
      `${worst.error.message}; other hosts failed too: ${others.join('; ')}`,
      { cause: worst.error },
    );
  }

  /** One host: retries what is passing, answers a challenge once. @throws CriError */
  async function askHost(
    host: RegistryHost,
    what: string,
    path: string,
    options: { method: 'GET' | 'HEAD'; headers: Record<string, string>; signal: AbortSignal },
  ): Promise<RegistryResponse> {
    const url = urlOf(host, path);
    let challenged = false;
    for (let attempt = 1; ; attempt++) {
      const grant = access.grants[host.host];
      const usable = grant !== undefined && grant.expiresMs > Date.now() ? grant : undefined;
      let response: HttpResponse;
      let from: URL;
      try {
        ({ response, from } = await follow(host, url, options, usable?.authorization));
      } catch (error) {
        options.signal.throwIfAborted();
        if (error instanceof CriError) throw error;
        if (attempt < maxAttempts && transient.has(codeOf(error) ?? '')) {
          await backOff(attempt, undefined, options.signal);
          continue;
        }
        throw unreachable(host, error);
      }
      if (response.status >= 200 && response.status < 300) return { response, host };
      if (response.status === 401 && from.origin !== url.origin) {
        response.body.destroy();
        throw foreignChallenge(host, what, from);
      }
      if (response.status === 401 && !challenged) {
        challenged = true;
        response.body.resume();
        delete access.grants[host.host];
        const renewed = await authorize(host, response, options.signal);
        if (renewed) {
          attempt--;
          continue;
        }
        throw denied(host, what, response.status, '', access.credentials[host.host] !== undefined);
      }
      const sent: [string, string | undefined][] = [['authorization', usable?.authorization]];
      const secrets = secretsOf(access.credentials[host.host], [...access.headers, ...host.headers, ...sent]);
      const said = redact(await errorText(response), secrets).slice(0, maxErrorCharacters);
      if ((response.status === 429 || isTrouble(response.status)) && attempt < maxAttempts) {
        await backOff(attempt, response.headers['retry-after'], options.signal);
        continue;
      }
      throw statusError(host, what, response.status, said);
    }
  }

  function urlOf(host: RegistryHost, path: string): URL {
    const url = new URL(`${host.scheme}://${host.host}${host.path}/${access.repository}/${path}`);
    // A mirror serves several registries and must know which is meant (containerd's convention).
    const own =
      host.host === access.registry ||
      (access.registry === 'docker.io' && host.host === 'registry-1.docker.io');
    if (!own) url.searchParams.set('ns', access.registry);
    return url;
  }

  async function authorize(
    host: RegistryHost,
    response: HttpResponse,
    signal: AbortSignal,
  ): Promise<boolean> {
    const header = response.headers['www-authenticate'] ?? '';
    const send: SendTokenRequest = async ({ url, method, headers, body }) => {
      const bounded = AbortSignal.any([signal, AbortSignal.timeout(documentTimeoutMs)]);
      const sent = await transport.send({
        url,
        method,
        headers,
        body,
        tls: host.tls,
        proxy: proxyFor(url, access.proxy),
        dialTimeoutMs: host.dialTimeoutMs,
        signal: bounded,
      });
      return { response: sent, body: await readBounded(sent.body, maxErrorBytes * 4) };
    };
    try {
      const grant = await answerChallenge(parseChallenges(header), {
        credentials: access.credentials[host.host],
        scope,
        secure: host.scheme === 'https' && !host.plainFallback,
        send,
        now: Date.now(),
      });
      if (grant) access.grants[host.host] = grant;
      return grant !== undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CriError) throw error;
      throw unreachable(host, error);
    }
  }

  /**
   * Sends a request and follows redirects; authorization and the host's headers stay with the host they are for.
   * `from` is where the answer came from in the end.
   */
  async function follow(
    host: RegistryHost,
    first: URL,
    {
      method,
      headers,
      signal,
    }: { method: 'GET' | 'HEAD'; headers: Record<string, string>; signal: AbortSignal },
    authorization: string | undefined,
  ): Promise<{ response: HttpResponse; from: URL }> {
    const own = {
      ...gathered([...access.headers, ...host.headers]),
      ...(authorization ? { authorization } : {}),
    };
    let url = first;
    for (let hops = 0; hops <= maxRedirects; hops++) {
      const isOwn = url.origin === first.origin;
      const response = await sendEither(host, {
        url,
        method,
        headers: { 'user-agent': 'cri-ts', ...headers, ...(isOwn ? own : {}) },
        tls: isOwn ? host.tls : { ...host.tls, client: [] },
        proxy: proxyFor(url, access.proxy),
        dialTimeoutMs: host.dialTimeoutMs,
        signal,
      });
      const { location } = response.headers;
      if (response.status < 301 || response.status > 308 || response.status === 304 || location === undefined)
        return { response, from: url };
      response.body.resume();
      if (!URL.canParse(location, url.href))
        throw redirected(host, `to ${JSON.stringify(location)}, which is no URL`);
      url = new URL(location, url);
      if (url.protocol !== 'https:' && url.protocol !== 'http:') throw redirected(host, `to ${url.protocol}`);
    }
    throw redirected(host, `more than ${maxRedirects} times`);
  }

  /** A registry on loopback may speak TLS or not; what it turned out to do is tried first from then on. */
  async function sendEither(
    host: RegistryHost,
    request: Parameters<Transport['send']>[0],
  ): Promise<HttpResponse> {
    if (!host.plainFallback || request.url.host !== host.host) return transport.send(request);
    const plainUrl = new URL(request.url);
    plainUrl.protocol = 'http:';
    if (access.plainHosts.includes(host.host)) return transport.send({ ...request, url: plainUrl });
    try {
      return await transport.send(request);
    } catch (error) {
      if (!speaksNoTls(error)) throw error;
      const response = await transport.send({ ...request, url: plainUrl });
      access.plainHosts.push(host.host);
      return response;
    }
  }

  return {
    async head(reference, signal) {
      const capability = capabilityFor(reference);
      const asked = await ask(`manifest ${reference}`, capability, `manifests/${reference}`, {
        method: 'HEAD',
        headers: { accept: acceptedManifests.join(', ') },
        signal,
      }).catch(error => {
        signal.throwIfAborted();
        if (error instanceof CriError && !error.message.startsWith(unavailable)) return undefined;
        throw error;
      });
      if (!asked) return undefined;
      const { response } = asked;
      response.body.resume();
      const digest = response.headers['docker-content-digest'];
      const size = Number(response.headers['content-length']);
      if (typeof digest !== 'string' || !Number.isSafeInteger(size)) return undefined;
      return { digest, mediaType: mediaTypeOf(response), size };
    },
    async manifest(reference, signal) {
      const what = `manifest ${reference}`;
      const capability = capabilityFor(reference);
      const { response, host } = await ask(what, capability, `manifests/${reference}`, {
        method: 'GET',
        headers: { accept: acceptedManifests.join(', ') },
        signal,
      });
      const digest = response.headers['docker-content-digest'];
      const bytes = await readDocument(response, what, host, signal);
      return {
        bytes,
        mediaType: mediaTypeOf(response),
        digest: typeof digest === 'string' ? digest : undefined,
        host: host.host,
      };
    },
    async document(digest, signal) {
      const { response, host } = await ask(`blob ${digest}`, 'canPull', `blobs/${digest}`, {
        method: 'GET',
        headers: {},
        signal,
      });
      return readDocument(response, `blob ${digest}`, host, signal);
    },
    blob(digest, from, signal) {
      const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
      return ask(`blob ${digest}`, 'canPull', `blobs/${digest}`, { method: 'GET', headers, signal });
    },
  };
}

/** kubelet recognises the beginning of the message (cri-api, pkg/errors). */
export const unavailable = 'RegistryUnavailable';

/** A digest says what it stands for; for a tag the host must be trusted to. */
const capabilityFor = (reference: string) => (reference.includes(':') ? 'canPull' : 'canResolve');

function mediaTypeOf({ headers }: HttpResponse): string {
  return (headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
}

/** Headers by name, in lower case; one that is given several times has all its values. */
function gathered(headers: RegistryHost['headers']): Record<string, string | string[]> {
  const values = new Map<string, string[]>();
  for (const [name, value] of headers) {
    const key = name.toLowerCase();
    values.set(key, [...(values.get(key) ?? []), value]);
  }
  return Object.fromEntries([...values].map(([name, all]) => [name, all.length > 1 ? all : (all[0] ?? '')]));
}

async function readDocument(
  response: HttpResponse,
  what: string,
  host: RegistryHost,
  signal: AbortSignal,
): Promise<Buffer> {
  const stated = Number(response.headers['content-length'] ?? 0);
  const tooLarge = () => {
    response.body.destroy();
    return new CriError(
      'imageFailed',
      `${what} from ${host.host} is larger than the ${maxDocumentBytes} bytes that are accepted`,
    );
  };
  if (stated > maxDocumentBytes) throw tooLarge();
  const timer = setTimeout(() => {
    response.body.destroy(
      Object.assign(new Error(`no complete answer within ${documentTimeoutMs / 1000} s`), {
        code: 'ETIMEDOUT',
      }),
    );
  }, documentTimeoutMs);
  try {
    const bytes = await readBounded(response.body, maxDocumentBytes + 1);
    if (bytes.length > maxDocumentBytes) throw tooLarge();
    return bytes;
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof CriError ? error : unreachable(host, error);
  } finally {
    clearTimeout(timer);
  }
}

/** At most `limit` bytes of a body; the rest is not read. */
async function readBounded(body: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= limit) break;
  }
  return Buffer.concat(chunks).subarray(0, limit);
}

/** What the registry says of an error (distribution specification, "Error Codes"). */
async function errorText({ body }: HttpResponse): Promise<string> {
  const timer = setTimeout(() => body.destroy(new Error('it took too long')), errorTextTimeoutMs);
  const bytes = await readBounded(body, maxErrorBytes)
    .catch(() => Buffer.alloc(0)) // the status says enough
    .finally(() => clearTimeout(timer));
  return bytes.toString('utf8').replace(/\s+/g, ' ').trim();
}

/** Waits before the next attempt: longer each time, and as long as the registry asks for. */
export async function backOff(
  attempt: number,
  retryAfter: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const seconds = Number(retryAfter);
  const asked =
    retryAfter !== undefined && Number.isFinite(seconds) ? Math.min(seconds * 1000, maxRetryAfterMs) : 0;
  const own = Math.min(firstBackoffMs * 2 ** (attempt - 1), maxBackoffMs) * (0.75 + Math.random() / 2);
  await sleep(Math.max(asked, own), undefined, { signal });
}

function unreachable(host: RegistryHost, error: unknown): CriError {
  return new CriError('imageFailed', `${unavailable}: registry host ${host.host} ${explain(error)}`, {
    cause: error,
  });
}

/** What a failed connection means and what to do, for the failures that have one cause. */
function explain(error: unknown): string {
  const words = error instanceof AggregateError ? error.errors.map(messageOf).join(', ') : messageOf(error);
  switch (codeOf(error)) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `cannot be found (${words}): check its name and the node's DNS`;
    case 'ECONNREFUSED':
      return `refused the connection (${words})`;
    case 'ETIMEDOUT':
      return `did not answer in time (${words})`;
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return `has a certificate of an unknown authority (${words}): name its CA as "ca" in hosts.toml`;
    case 'CERT_HAS_EXPIRED':
      return `has an expired certificate (${words})`;
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `has a certificate for another name (${words})`;
    default:
      return `failed: ${words}`;
  }
}

function speaksNoTls(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  return (
    code === 'EPROTO' ||
    code.startsWith('ERR_SSL') ||
    /wrong version number|packet length too long/i.test(messageOf(error))
  );
}

function redirected(host: RegistryHost, how: string): CriError {
  return new CriError('imageFailed', `${unavailable}: registry host ${host.host} redirects ${how}`);
}

/** Who answers a challenge sends credentials to the realm it names; only the host that they are for may name one. */
function foreignChallenge(host: RegistryHost, what: string, from: URL): CriError {
  return new CriError(
    'unauthenticated',
    `registry host ${host.host} redirects ${what} to ${from.origin}, which asks for credentials: they are not sent there`,
  );
}

function denied(
  host: RegistryHost,
  what: string,
  status: number,
  said: string,
  withCredentials: boolean,
): CriError {
  const detail = said === '' ? '' : ` (${said})`;
  if (status === 403)
    return new CriError('permissionDenied', `registry host ${host.host} denied access to ${what}${detail}`);
  return new CriError(
    'unauthenticated',
    withCredentials
      ? `registry host ${host.host} did not accept the credentials for ${what}${detail}: check the pull secret`
      : `registry host ${host.host} asks for credentials for ${what}${detail}: give the pod an image pull secret`,
  );
}

/** A server's trouble may pass; that it knows no such method (501) will not. */
const isTrouble = (status: number): boolean => status >= 500 && status !== 501;

function statusError(host: RegistryHost, what: string, status: number, said: string): CriError {
  const detail = said === '' ? '' : ` (${said})`;
  switch (status) {
    case 401:
    case 403:
      return denied(host, what, status, said, true);
    case 404:
      return new CriError('notFound', `registry host ${host.host} has no ${what}${detail}`);
    case 429:
      return new CriError(
        'imageFailed',
        `${unavailable}: registry host ${host.host} allows no more requests for now${detail}`,
      );
    default:
      return new CriError(
        'imageFailed',
        isTrouble(status)
          ? `${unavailable}: registry host ${host.host} answered ${status} to ${what}${detail}`
          : `registry host ${host.host} answered ${status} to ${what}${detail}`,
      );
  }
}

/** An answer says more than a refusal, a refusal more than silence. */
function rankOf({ kind, message }: CriError): number {
  if (kind === 'permissionDenied' || kind === 'unauthenticated') return 3;
  if (kind === 'notFound') return 2;
  return message.startsWith(unavailable) ? 1 : 4;
}
