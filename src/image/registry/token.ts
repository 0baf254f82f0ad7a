// Tokens for registries: asked of the realm that a challenge names (distribution specification, "Token
// Authentication"; OAuth2 for identity tokens).
import { z } from 'zod';
import { CriError } from '../../errors.ts';
import { redact, secretsOf } from './redact.ts';
import { basicAuthorization, type HttpResponse } from './transport.ts';
import type { Credentials, Grant } from './types.ts';

/** Tokens say when they expire, or live a minute (distribution specification). */
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
 * Fetches a token as the parameters of a challenge say.
 * @throws CriError unauthenticated or permissionDenied when the token server refuses.
 */
export async function fetchToken(
  parameters: ReadonlyMap<string, string>,
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
  if (response.status !== 200)
    refused(url, response.status, redact(body.toString('utf8'), secretsOf(credentials, [])));
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

function refused(url: URL, status: number, text: string): never {
  const said = text.replace(/\s+/g, ' ').trim().slice(0, 300);
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
