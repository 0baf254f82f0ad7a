// What a killed daemon leaves of commands that it was just starting: directories in bundles, which hold their environments.
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** The directory of each command, in the bundle, has a name that begins so. */
export const commandDirectoryPrefix = 'exec-';

/** Removes such directories from all bundles. Call while no command is being started. */
export function removeCommandDirectories(bundles: string): void {
  for (const { name: id } of readdirSync(bundles, { withFileTypes: true }).filter(it => it.isDirectory())) {
    const names = readdirSync(join(bundles, id)).filter(name => name.startsWith(commandDirectoryPrefix));
    for (const name of names) rmSync(join(bundles, id, name), { recursive: true, force: true });
  }
}
