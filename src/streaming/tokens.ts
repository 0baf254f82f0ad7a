// The one-time tokens in streaming URLs. Who holds a token may do what the CRI request that made it asked for, once,
// within a minute; there is no other authentication on the streaming server.
import { randomBytes } from 'node:crypto';
import { CriError } from '../errors.ts';

export interface Tokens<T> {
  /** @throws CriError resourceExhausted when too many wait to be used */
  issue(request: T): string;
  /** What was asked for, while the token is good. It stays good. */
  peek(token: string): T | undefined;
  /** Makes the token useless. */
  use(token: string): void;
}

const tokenBytes = 16;
export const tokenLifetimeMs = 60_000;
const maxOutstanding = 1000;

export function createTokens<T>(now: () => number = () => performance.now()): Tokens<T> {
  /** In the order of issue, so the oldest come first. */
  const outstanding = new Map<string, { request: T; expires: number }>();

  function dropExpired(): void {
    for (const [token, { expires }] of outstanding) {
      if (expires > now()) return;
      outstanding.delete(token);
    }
  }

  return {
    issue(request) {
      dropExpired();
      if (outstanding.size >= maxOutstanding) {
        throw new CriError(
          'resourceExhausted',
          `${maxOutstanding} streaming requests wait for their clients to connect; try again in a minute`,
        );
      }
      const token = randomBytes(tokenBytes).toString('base64url');
      outstanding.set(token, { request, expires: now() + tokenLifetimeMs });
      return token;
    },
    peek(token) {
      dropExpired();
      return outstanding.get(token)?.request;
    },
    use: token => void outstanding.delete(token),
  };
}
