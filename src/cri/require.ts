// Checks that several RPCs make of their requests.
import { isAbsolute, relative, resolve } from 'node:path';
import type { Container } from '../container/container.ts';
import { CriError } from '../errors.ts';

/** @throws CriError invalidArgument when the metadata or its name is missing */
export function requireMetadata<T extends { name: string }>(metadata: T | null, of: string): T {
  if (!metadata) throw new CriError('invalidArgument', `the ${of} has no metadata`);
  if (metadata.name === '') throw new CriError('invalidArgument', `the metadata of the ${of} has no name`);
  return metadata;
}

/**
 * `path` below `directory`.
 * @throws CriError invalidArgument when it would climb out of it; `what` begins the sentence
 */
export function within(directory: string, path: string, what: string): string {
  const whole = resolve(directory, path);
  const inside = relative(directory, whole);
  if (isAbsolute(path) || inside === '' || inside === '..' || inside.startsWith('../')) {
    throw new CriError(
      'invalidArgument',
      `${what} ${JSON.stringify(path)} is not a path within ${directory}`,
    );
  }
  return whole;
}

/**
 * Checks that no text of a request holds a NUL character, which ends every text of the kernel's: such a path, name or
 * argument could not even be spoken of when what was made for it is to be taken away.
 * @throws CriError invalidArgument naming the field
 */
export function requireNoNul(value: unknown, field: readonly string[] = []): void {
  if (typeof value === 'string') {
    if (!value.includes('\0')) return;
    throw new CriError(
      'invalidArgument',
      `${field.join('.')} ${JSON.stringify(value)} holds a NUL character, which no path, name or argument can`,
    );
  }
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return;
  for (const [name, inner] of Object.entries(value)) {
    requireNoNul(name, [...field, name]);
    requireNoNul(inner, [...field, name]);
  }
}

/** @throws CriError wrongState when the container does not run; `so` says what cannot be done */
export function requireRunning({ id, phase }: Container, so: string): void {
  if (phase !== 'running') throw new CriError('wrongState', `container ${id} is not running, so ${so}`);
}
