// Whether pods may have user namespaces on this node: found out by making one and mapping the owners of the images' file
// system by it, because kernels, their settings and file systems each have a say; and by looking at the way there.
import { statSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { messageOf } from '../errors.ts';
import { makeDirectoriesSync } from '../host/directories.ts';
import { parseKernelRelease } from '../host/facts.ts';
import { tryIdmap } from '../host/idmap.ts';
import { deleteNetns } from '../host/netns.ts';
import { createUserNamespace } from '../host/userns.ts';

/** Overlayfs takes layers with mapped owners since this one. */
const [minMajor, minMinor] = [5, 19];
const probeMs = 10_000;
/** Any will do. */
const probeRange = { containerID: 0, hostID: 65_536, size: 65_536 };

/** Why not; undefined when they may. */
export async function whyNoUserNamespaces(directories: {
  root: string;
  state: string;
}): Promise<string | undefined> {
  const { major, minor } = parseKernelRelease(release());
  if (major < minMajor || (major === minMajor && minor < minMinor))
    return `they need Linux ${minMajor}.${minMinor} or newer, this is ${release()}`;
  const { root, state } = directories;
  const closed = [root, state].flatMap(path => closedOnTheWay(path))[0];
  if (closed !== undefined) {
    return `root of a pod would not reach its files, because ${closed} is closed to other users: chmod o+x ${closed}`;
  }
  const layers = join(root, 'layers');
  const path = join(state, 'userns', 'probe');
  try {
    makeDirectoriesSync(layers, 0o755);
    deleteNetns(path); // one that a killed daemon left
    await createUserNamespace({ uids: [probeRange], gids: [probeRange], path }, AbortSignal.timeout(probeMs));
    tryIdmap(layers, path);
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    deleteNetns(path);
  }
}

/** Directories on the way to `path`, itself included, that users other than root may not pass. */
function closedOnTheWay(path: string): string[] {
  const above = path === '/' ? [] : closedOnTheWay(dirname(path));
  return (statSync(path).mode & 0o001) === 0 ? [...above, path] : above;
}
