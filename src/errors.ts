// Every error a client of the daemon can meet: one kind a row, with the gRPC status it becomes.
// Any layer throws `CriError`; only src/cri turns one into a status. What is not a CriError is a bug
// or a foreign failure and becomes UNKNOWN with its own words kept.

/** gRPC status names used by this catalogue (grpc/grpc, doc/statuscodes.md). */
export type StatusName =
  | 'CANCELLED'
  | 'UNKNOWN'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'UNAUTHENTICATED';

/** Kind of error -> gRPC status. The kind is stable and greppable in logs; the message carries the detail. */
export const errorKinds = {
  // what the caller said
  invalidArgument: 'INVALID_ARGUMENT',
  ambiguousId: 'INVALID_ARGUMENT',
  notFound: 'NOT_FOUND',
  nameReserved: 'ALREADY_EXISTS',
  alreadyExists: 'ALREADY_EXISTS',
  wrongState: 'FAILED_PRECONDITION',
  unimplemented: 'UNIMPLEMENTED',
  outOfRange: 'INVALID_ARGUMENT',
  permissionDenied: 'PERMISSION_DENIED',
  unauthenticated: 'UNAUTHENTICATED',
  // what the caller's patience said
  cancelled: 'CANCELLED',
  deadlineExceeded: 'DEADLINE_EXCEEDED',
  // what the host said
  unavailable: 'UNAVAILABLE',
  resourceExhausted: 'RESOURCE_EXHAUSTED',
  runtimeFailed: 'UNKNOWN',
  networkFailed: 'UNKNOWN',
  imageFailed: 'UNKNOWN',
  signatureInvalid: 'UNKNOWN',
  storeDamaged: 'INTERNAL',
  internal: 'INTERNAL',
} as const satisfies Record<string, StatusName>;

export type ErrorKind = keyof typeof errorKinds;

/**
 * An error with a kind of the catalogue. The message is a sentence that names the object, what was tried,
 * what happened and, where there is one, what to do next.
 */
export class CriError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CriError';
    this.kind = kind;
  }

  get status(): StatusName {
    return errorKinds[this.kind];
  }
}

/** The words of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The system error code (`ENOENT`, ...) of anything that was thrown, when it has one. */
export function codeOf(thrown: unknown): string | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
}

/** Whether a disk or a quota is full; also when a part that has words of its own put the system's error into its cause. */
export function isDiskFull(thrown: unknown): boolean {
  if (['ENOSPC', 'EDQUOT'].includes(codeOf(thrown) ?? '')) return true;
  return thrown instanceof Error && thrown.cause !== undefined && isDiskFull(thrown.cause);
}
