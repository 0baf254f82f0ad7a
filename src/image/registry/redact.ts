// What a registry says of an error goes into messages, events and logs; a registry, or a proxy before it, may send
// back what it was sent.
import type { Credentials } from './types.ts';

type Headers = readonly (readonly [name: string, value: string | undefined])[];

const secretHeader = /auth|cookie|credential|key|password|secret|token/i;

/** The values that no message may hold: of the credentials, and of the headers that carry such. */
export function secretsOf(credentials: Credentials | undefined, headers: Headers): string[] {
  const { username, password, identityToken, registryToken } = credentials ?? {};
  const pair = username === undefined ? undefined : `${username}:${password ?? ''}`;
  const sent = headers.flatMap(([name, value]) =>
    // Of `Bearer TOKEN` the token alone is the secret.
    secretHeader.test(name) ? [value, value?.replace(/^[A-Za-z]+ +/, '')] : [],
  );
  return [password, identityToken, registryToken, pair && Buffer.from(pair).toString('base64'), ...sent]
    .flatMap(secret =>
      secret ? [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)] : [],
    )
    .sort((a, b) => b.length - a.length);
}

/** `text` without any of `secrets`. */
export function redact(text: string, secrets: readonly string[]): string {
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text);
}
