// The kinds of value a configuration key may have. Each schema's error text is the answer to "what is
// allowed here"; load.ts puts the key's path and the offending value in front of it.
// Nothing here transforms: a checked file keeps the file's own form, so that it can be printed again.
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { parseDuration } from './duration.ts';

export const flag = () => z.boolean({ error: 'true or false' });

export const text = (allowed = 'a string') => z.string({ error: allowed });

export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER) {
  const error =
    max === Number.MAX_SAFE_INTEGER
      ? min === Number.MIN_SAFE_INTEGER
        ? 'a whole number'
        : `a whole number, ${min} or more`
      : `a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

export function ratio() {
  const error = 'a number from 0 to 1';
  return z.number({ error }).min(0, { error }).max(1, { error });
}

export function oneOf<const V extends readonly [string, ...string[]]>(...values: V) {
  return z.enum(values, { error: `one of ${values.map(value => JSON.stringify(value)).join(', ')}` });
}

/** A Go duration. `allowZero` is for keys where zero means "no bound". */
export function duration({ allowZero }: { allowZero: boolean }) {
  const error = allowZero
    ? 'a duration such as "4m", "10s" or "1h30m", or "0s" for no bound'
    : 'a duration above zero such as "4m", "10s" or "1h30m"';
  return z.string({ error }).refine(
    value => {
      const milliseconds = parseDuration(value);
      return milliseconds !== undefined && (allowZero ? milliseconds >= 0 : milliseconds > 0);
    },
    { error },
  );
}

/** An absolute path, or "" where a key's absence is its default. */
export function path() {
  const error = 'an absolute path';
  return z.string({ error }).refine(value => value === '' || isPath(value), { error });
}

/** An absolute path, or a bare name that is looked up on PATH, or "". */
export function executable() {
  const error = 'an absolute path, or the name of a program on PATH';
  return z.string({ error }).refine(value => isPath(value) || !value.includes('/'), { error });
}

/** The sun_path of an AF_UNIX address holds 107 bytes and a NUL. */
const socketPathBytes = 107;

export function socketPath() {
  const error = `an absolute path of at most ${socketPathBytes} bytes, with or without unix:// in front`;
  return z.string({ error }).refine(
    value => {
      const plain = value.replace(/^unix:\/\//, '');
      return isPath(plain) && Buffer.byteLength(plain) <= socketPathBytes;
    },
    { error },
  );
}

/** containerd writes the port as a string; a number is understood too. */
export function port() {
  const error = 'a port from 0 to 65535 ("0" = any free port)';
  return z.union(
    [
      z.string().refine(value => /^\d{1,5}$/.test(value) && Number(value) <= 65_535, { error }),
      z.int({ error }).min(0, { error }).max(65_535, { error }),
    ],
    { error },
  );
}

/** `host:port`, the host possibly empty or a bracketed IPv6 address. */
export function hostAndPort() {
  const error = 'host:port, such as "127.0.0.1:1338" or "[::1]:1338"';
  return z.string({ error }).refine(
    value => {
      if (value === '') return true;
      const found = /^(?:\[[0-9a-fA-F:.]+\]|[^:[\]/]*):(\d{1,5})$/.exec(value);
      return found !== null && Number(found[1]) <= 65_535;
    },
    { error },
  );
}

export function listOf<T extends z.ZodType>(item: T, allowed: string) {
  return z.array(item, { error: `a list of ${allowed}` });
}

function isPath(value: string): boolean {
  return isAbsolute(value) && !value.includes('\0');
}
