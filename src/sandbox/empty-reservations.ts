// Addresses that nobody can give back. host-local keeps an address as a file that holds the container's id, and does not sync it:
// after a power cut the file may be there and be empty. DEL looks for the id and passes it over, ADD takes the address for
// used, and so it would be lost for good. While host-local's lock is held nothing writes there, and what is empty is such a file.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { NetworkConfigList } from '../cni-invoker/index.ts';
import { codeOf } from '../errors.ts';
import { lockFile } from '../host/lock.ts';

const defaultDataDir = '/var/lib/cni/networks';

/**
 * Removes the reservations of host-local that hold nothing, of these networks, and returns their paths. A network whose lock is
 * taken is left alone: a plugin is at work, and the next start looks again.
 * @throws what the file system says
 */
export function removeEmptyReservations(networks: readonly NetworkConfigList[]): string[] {
  const directories = networks.flatMap(({ name, plugins }) =>
    plugins
      .filter(({ ipamType }) => ipamType === 'host-local')
      .map(({ raw }) => join(dataDirOf(raw.ipam), name)),
  );
  return [...new Set(directories)].flatMap(removeFrom);
}

function dataDirOf(ipam: unknown): string {
  const { dataDir } = (ipam ?? {}) as { dataDir?: unknown };
  return typeof dataDir === 'string' && dataDir !== '' ? dataDir : defaultDataDir;
}

function removeFrom(directory: string): string[] {
  const addresses = namesIn(directory).filter(name => isIP(name) !== 0);
  if (addresses.length === 0) return [];
  const lock = lockFile(join(directory, 'lock'));
  if (!lock) return [];
  try {
    const empty = addresses.map(name => join(directory, name)).filter(isEmpty);
    for (const path of empty) rmSync(path, { force: true });
    return empty;
  } finally {
    lock.release();
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []; // no address was given yet
    throw error;
  }
}

/** No byte, or none but the NULs that some file systems show for what was never written. */
function isEmpty(path: string): boolean {
  try {
    return readFileSync(path).every(byte => byte === 0);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false; // it was given back meanwhile
    throw error;
  }
}
