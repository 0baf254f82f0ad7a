// What can go wrong when CNI is invoked: one error class, its kinds, and what is known of the plugin that failed.
// A plugin's own words (code, msg, details) are kept whole beside the sentence made of them.

/** Kinds of a configuration file that cannot be used (spec section 1). */
export const configErrorKinds = [
  'no-configuration',
  'unreadable-config',
  'invalid-json',
  'invalid-config',
  'no-name',
  'invalid-name',
  'duplicate-name',
  'no-plugins',
  'no-type',
  'invalid-type',
  'unsupported-version',
  'plugin-not-found',
  'plugin-not-executable',
] as const;
export type ConfigErrorKind = (typeof configErrorKinds)[number];

export type CniErrorKind =
  | ConfigErrorKind
  // what the caller said
  | 'invalid-argument'
  | 'already-attached'
  | 'not-attached'
  // what the plugin did
  | 'incompatible-version'
  | 'plugin-failed'
  | 'plugin-killed'
  | 'plugin-timed-out'
  | 'plugin-output-too-large'
  | 'plugin-not-started'
  | 'invalid-result'
  | 'cancelled'
  // what the cache held
  | 'cache-failed';

/** The error result of a plugin (spec section 5, Error), as the plugin printed it. */
export interface PluginErrorResult {
  code: number;
  msg: string;
  details?: string | undefined;
}

/** Codes of the specification that a runtime may want to tell apart (spec section 5, Error). */
export const pluginErrorCodes = {
  incompatibleVersion: 1,
  unknownContainer: 3,
  tryAgainLater: 11,
  notAvailable: 50,
  limitedConnectivity: 51,
} as const;

/** What is known of the failure; every part is absent where it does not apply. */
export interface CniErrorDetails {
  verb?: string;
  network?: string;
  /** Path of the plugin's executable. */
  plugin?: string;
  containerId?: string;
  ifName?: string;
  /** The plugin's JSON error, whole. */
  pluginError?: PluginErrorResult;
  exitCode?: number;
  /** Path of the record that is concerned. */
  file?: string;
  /** The end of what the plugin wrote to stderr. */
  stderr?: string;
  /** Further failures of the same request: the DELs that undo a failed ADD, the other plugins of a GC. */
  others?: readonly CniError[];
  cause?: unknown;
}

/** Raised by everything in this package. `kind` is stable; the message names network, plugin and verb. */
export class CniError extends Error {
  readonly kind: CniErrorKind;
  readonly details: CniErrorDetails;

  constructor(kind: CniErrorKind, message: string, details: CniErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'CniError';
    this.kind = kind;
    this.details = details;
  }
}

/** One error for several: the first one's kind and details, the words of all. */
export function joinErrors(errors: readonly CniError[]): CniError | undefined {
  const [first, ...others] = errors;
  if (first === undefined || others.length === 0) return first;
  const message = errors.map(error => error.message).join('; ');
  return new CniError(first.kind, message, { ...first.details, others, cause: first });
}
