// What the operations share: where plugins are, how they are executed, what is recorded.
import type { AttachmentCache } from '../attachment-cache.ts';
import { CniError } from '../errors.ts';
import type { ExecutePlugin } from '../execute-plugin.ts';
import type { PluginVersions } from '../plugin-versions.ts';

export interface OperationContext {
  binDirs: readonly string[];
  execute: ExecutePlugin;
  plugins: PluginVersions;
  cache: AttachmentCache;
}

export function asCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  throw thrown; // Not a failure of CNI but a defect: it must not be mistaken for one.
}

/** For operations whose plugins print nothing of interest. */
export const nothing = (): void => {};
