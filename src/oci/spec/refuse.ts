// How spec building says no: one sentence that names the sandbox or container, the field and the reason.

import type { Int64 } from '../../cri-api/types.ts';
import { CriError } from '../../errors.ts';

/** Throws invalidArgument: `container "web" (3f2a...): args: is empty`. */
export function refuse(subject: string, field: string, reason: string, cause?: unknown): never {
  throw new CriError(
    'invalidArgument',
    `${subject}: ${field}: ${reason}`,
    cause === undefined ? undefined : { cause },
  );
}

/** A 64-bit integer of the API as a number; refuses what a JSON number cannot carry exactly. */
export function exactInteger(value: Int64, subject: string, field: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new CriError('outOfRange', `${subject}: ${field}: ${value} is not an integer below 2^53`);
  }
  return number;
}
