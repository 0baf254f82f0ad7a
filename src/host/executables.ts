// Where programs of the host are found.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The absolute path of an executable, looked up on the default PATH as a shell would; as it stands when it is not there. */
export function findExecutable(name: string): string {
  if (name.includes('/')) return name;
  for (const directory of defaultPath.split(':')) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not there
    }
  }
  return name;
}
