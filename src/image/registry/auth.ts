// Authorization at registries: the challenge of a 401 is answered with basic credentials or with a token from
// the realm it names (distribution specification, "Token Authentication"; OAuth2 for identity tokens).
import { z } from 'zod';
import { CriError } from '../../errors.ts';
import type { HttpResponse } from './transport.ts';
import type { Credentials, Grant } from './types.ts';

export interface Challenge {
  scheme: 'basic' | 'bearer';
  parameters: ReadonlyMap<string, string>;
}

/** CRI's AuthConfig as it comes (runtime.v1.AuthConfig). */
export interface AuthConfig {
  username?: string;
  password?: string;
  /** base64 of `username:password`. */
  auth?: string;
  serverAddress?: string;
  identityToken?: string;
  registryToken?: string;
}

/**
 * The credentials in an AuthConfig that are meant for `host`; undefined when there are none.
 * @throws CriError invalidArgument when `auth` cannot be decoded.
 */
export function readCredentials(auth: AuthConfig | undefined | null, host: string): Credentials | undefined {
  if (!auth) return undefined;
  if (auth.serverAddress && !isFor(auth.serverAddress, host)) return undefined;
  if (auth.username) return { username: auth.username, password: auth.password ?? '' };
  if (auth.identityToken) return { identityToken: auth.identityToken };
  if (auth.registryToken) return { registryToken: auth.registryToken };
  if (!auth.auth) return undefined;
  const decoded = Buffer.from(auth.auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon === -1) {
    throw new CriError(
      'invalidArgument',
      `the credentials for ${host} are not valid: "auth" is not base64 of user:password`,
    );
  }
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1).replace(/\0+$/, '') };
}

function isFor(serverAddress: string, host: string): boolean {
  const url = serverAddress.includes('://') ? serverAddress : `https://${serverAddress}`;
  if (!URL.canParse(url)) return false;
  // Docker's configuration names Docker Hub by its old index.
  const named = new URL(url).host;
  const hub = ['index.docker.io', 'docker.io', 'registry-1.docker.io'];
  return named === host || (hub.includes(named) && hub.includes(host));
}

/** The challenges of a WWW-Authenticate header (RFC 9110, 11.6.1), those that are understood. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  const token = /\s*,?\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?/y;
  while (token.lastIndex < header.length) {
    const match = token.exec(header);
    if (!match) break;
    const [, name = '', quoted, plain] = match;
    if (quoted === undefined && plain === undefined)
      challenges.push({ scheme: name.toLowerCase(), parameters: new Map() });
    else
      challenges.at(-1)?.parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '');
  }
  return challenges.flatMap(({ scheme, parameters }): Challenge[] =>
    scheme === 'basic' || scheme === 'bearer' ? [{ scheme, parameters }] : [],
  );
}

export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** Basic credentials do not expire; tokens say when, or live a minute (distribution specification). */
const never = Number.MAX_SAFE_INTEGER;
const defaultTokenSeconds = 60;
/** A token is not used in its last seconds, for it may expire on the way. */
const expiryMarginMs = 5_000;

const tokenResponse = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().optional(),
});

/** Sends a token request; redirects, TLS and proxies are the caller's matter. */
export type SendTokenRequest = (request: {
  url: URL;
  method: 'GET' | 'POST';
  headers: Record<string, string>;
  body?: string;
}) => Promise<{ response: HttpResponse; body: Buffer }>;

/**
 * Answers a challenge: what to send as Authorization.
 * @returns undefined when there is nothing that could answer it.
 * @throws CriError unauthenticated or permissionDenied when the token server refuses.
 */
export async function answerChallenge(
  challenges: readonly Challenge[],
  {
    credentials,
    scope,
    secure,
    send,
    now,
  }: {
    credentials: Credentials | undefined;
    /** Such as `repository:library/busybox:pull`, when the challenge names none. */
    scope: string;
    /** The registry was asked over TLS: credentials must not leave over less. */
    secure: boolean;
    send: SendTokenRequest;
    now: number;
  },
): Promise<Grant | undefined> {
  if (credentials?.registryToken !== undefined) {
    return { authorization: `Bearer ${credentials.registryToken}`, expiresMs: never };
  }
  const bearer = challenges.find(challenge => challenge.scheme === 'bearer');
  if (bearer) return fetchToken(bearer, { credentials, scope, secure, send, now });
  const { username, password } = credentials ?? {};
  const basic = challenges.some(challenge => challenge.scheme === 'basic');
  if (!basic || username === undefined) return undefined;
  return { authorization: basicAuthorization(username, password ?? ''), expiresMs: never };
}

async function fetchToken(
  { parameters }: Challenge,
  {
    credentials,
    scope,
    secure,
    send,
    now,
  }: {
    credentials: Credentials | undefined;
    scope: string;
    secure: boolean;
    send: SendTokenRequest;
    now: number;
  },
): Promise<Grant> {
  const realm = parameters.get('realm') ?? '';
  if (!/^https?:\/\//.test(realm) || !URL.canParse(realm)) {
    throw new CriError(
      'unauthenticated',
      `the registry names ${JSON.stringify(realm)} as its token server, which is no URL`,
    );
  }
  const url = new URL(realm);
  const service = parameters.get('service');
  const wanted = parameters.get('scope') ?? scope;
  const secret = credentials?.identityToken ?? credentials?.username;
  if (secret !== undefined && secure && url.protocol !== 'https:') {
    throw new CriError(
      'unauthenticated',
      `the token server ${url.host} is reached without TLS: credentials are not sent there`,
    );
  }
  const { response, body } = await (credentials?.identityToken === undefined
    ? send(getRequest(url, service, wanted, credentials))
    : send(refreshRequest(url, service, wanted, credentials.identityToken)));
  if (response.status !== 200) refused(url, response.status, body);
  const parsed = tokenResponse.safeParse(parseJson(body));
  const token = parsed.success ? (parsed.data.token ?? parsed.data.access_token) : undefined;
  if (!token) throw new CriError('unauthenticated', `the token server ${url.host} answered without a token`);
  const seconds = Math.max(parsed.data?.expires_in ?? defaultTokenSeconds, defaultTokenSeconds);
  return { authorization: `Bearer ${token}`, expiresMs: now + seconds * 1000 - expiryMarginMs };
}

function getRequest(
  realm: URL,
  service: string | undefined,
  scope: string,
  credentials: Credentials | undefined,
) {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const one of scope.split(' ')) url.searchParams.append('scope', one);
  const headers: Record<string, string> = {};
  if (credentials?.username !== undefined) {
    headers.authorization = basicAuthorization(credentials.username, credentials.password ?? '');
  }
  return { url, method: 'GET' as const, headers };
}

function refreshRequest(url: URL, service: string | undefined, scope: string, identityToken: string) {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    refresh_token: identityToken,
    client_id: 'cri-ts',
    scope,
  });
  if (service !== undefined) form.set('service', service);
  return {
    url,
    method: 'POST' as const,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: form.toString(),
  };
}

function refused(url: URL, status: number, body: Buffer): never {
  const said = body.toString('utf8').slice(0, 300).replace(/\s+/g, ' ').trim();
  const detail = said === '' ? '' : ` (${said})`;
  if (status === 403) {
    throw new CriError('permissionDenied', `the token server ${url.host} denied access${detail}`);
  }
  if (status === 401 || status === 400) {
    throw new CriError(
      'unauthenticated',
      `the token server ${url.host} did not accept the credentials${detail}: check the pull secret`,
    );
  }
  throw Object.assign(new Error(`the token server ${url.host} answered ${status}${detail}`), { status });
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
