// Authorization at registries: the challenge of a 401 is answered with basic credentials or with a token from
// the realm it names (token.ts).
import { CriError } from '../../errors.ts';
import type { SendTokenRequest } from './token.ts';
import { basicAuthorization } from './transport.ts';
import type { Credentials, Grant, RegistryHost } from './types.ts';

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

/**
 * The credentials in an AuthConfig for each of the hosts that may have them, mirrors among them: the host that it names,
 * or all when it names none, as with containerd. kubelet names none.
 * @throws CriError invalidArgument as readCredentials does.
 */
export function credentialsByHost(
  auth: AuthConfig | undefined,
  hosts: readonly Pick<RegistryHost, 'host'>[],
): Record<string, Credentials> {
  const found: Record<string, Credentials> = {};
  for (const { host } of hosts) {
    const credentials = readCredentials(auth, host);
    if (credentials) found[host] = credentials;
  }
  return found;
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

/** Basic credentials and given tokens do not expire. */
const never = Number.MAX_SAFE_INTEGER;

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
  if (bearer) {
    // Loaded when it is wanted: image workers, which start in the middle of a pull, are given the token that it has.
    const { fetchToken } = await import('./token.ts');
    return fetchToken(bearer.parameters, { credentials, scope, secure, send, now });
  }
  const { username, password } = credentials ?? {};
  const basic = challenges.some(challenge => challenge.scheme === 'basic');
  if (!basic || username === undefined) return undefined;
  return { authorization: basicAuthorization(username, password ?? ''), expiresMs: never };
}
