// Finding a plugin's executable in the directories of CNI_PATH (spec section 3, step 1 of every operation).
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { CniError } from './errors.ts';

/** An executable found, and what tells it from one that replaces it later. */
export interface PluginBinary {
  type: string;
  path: string;
  /** Changes when the file does: device, inode, size and time of modification. */
  fingerprint: string;
}

/**
 * The first regular file named `type` in `binDirs`.
 * @throws CniError plugin-not-found, plugin-not-executable
 */
export function findPlugin(type: string, binDirs: readonly string[]): PluginBinary {
  for (const dir of binDirs) {
    const path = join(dir, type);
    const file = look(path);
    if (!file?.isFile()) continue;
    if ((file.mode & 0o111n) === 0n) {
      throw new CniError(
        'plugin-not-executable',
        `the plugin ${path} is not executable; install it with mode 0755`,
        { plugin: path },
      );
    }
    return { type, path, fingerprint: `${file.dev}:${file.ino}:${file.size}:${file.mtimeNs}` };
  }
  throw new CniError(
    'plugin-not-found',
    `the plugin ${JSON.stringify(type)} is not in ${binDirs.join(' or ') || '(no plugin directory is configured)'}; ` +
      'install it there, or add the directory that holds it',
  );
}

/** Synchronous: the directories are in the kernel's cache, and a turn of the thread pool takes many times longer. */
function look(path: string) {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined; // Not to be reached, such as below a file: not there.
  }
}
