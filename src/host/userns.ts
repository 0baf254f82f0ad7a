// User namespaces with a name: bound on a file, like network namespaces (netns.ts), so that they live without a process
// and mounts can be mapped by them. A process with threads cannot enter a new one, so a child is in it for the moment.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../errors.ts';
import { makeDirectoriesSync } from './directories.ts';
import { defaultPath } from './executables.ts';
import { helperEnvironment } from './helpers.ts';
import { HostError } from './libc.ts';
import { mount, touch } from './mount.ts';

/** A range of ids, in the words of user_namespaces(7): from `containerID` on inside, from `hostID` on outside. */
export interface IdRange {
  containerID: number;
  hostID: number;
  size: number;
}

export interface UserNamespaceRequest {
  uids: readonly IdRange[];
  gids: readonly IdRange[];
  /** Where to bind it. */
  path: string;
  /** Where to bind a network namespace that it owns; undefined = none is made. */
  netnsPath?: string | undefined;
}

/** Makes and binds the namespaces; take them away with `unbindNamespace`. @throws HostError */
export async function createUserNamespace(request: UserNamespaceRequest, signal: AbortSignal): Promise<void> {
  const { uids, gids, path, netnsPath } = request;
  const child = await childInside(netnsPath !== undefined, signal);
  try {
    writeMap(`/proc/${child.pid}/gid_map`, gids);
    writeMap(`/proc/${child.pid}/uid_map`, uids);
    bind(`/proc/${child.pid}/ns/user`, path);
    if (netnsPath !== undefined) bind(`/proc/${child.pid}/ns/net`, netnsPath);
  } finally {
    await ended(child);
  }
}

/** unshare(1) becomes cat(1), which echoes as soon as it is in its namespaces. */
async function childInside(withNetwork: boolean, signal: AbortSignal): Promise<ChildProcess> {
  const child = spawn('unshare', ['--user', ...(withNetwork ? ['--net'] : []), '--', 'cat'], {
    env: { PATH: defaultPath, ...helperEnvironment() },
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
  let words = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    words += chunk.toString();
  });
  child.stdin?.on('error', () => {});
  child.stdin?.write('.');
  try {
    await Promise.race([
      once(child.stdout ?? child, 'data', { signal }),
      once(child, 'exit', { signal }).then(() => {
        throw new HostError('unshare', 'EPERM', `making a user namespace: ${words.trim()}`);
      }),
    ]);
    return child;
  } catch (error) {
    await ended(child);
    throw error instanceof HostError || signal.aborted
      ? error
      : new HostError('unshare', 'EPERM', `making a user namespace: ${messageOf(error)}`);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

function writeMap(file: string, ranges: readonly IdRange[]): void {
  const lines = ranges.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`);
  writeFileSync(file, lines.join(''));
}

function bind(namespace: string, path: string): void {
  makeDirectoriesSync(dirname(path), 0o755);
  touch(path);
  mount({ source: namespace, target: path, flags: ['bind'] });
}

/** The host's id of an id inside; undefined when it is not mapped. */
export function hostId(ranges: readonly IdRange[], id: number): number | undefined {
  const range = ranges.find(({ containerID, size }) => id >= containerID && id < containerID + size);
  return range && range.hostID + (id - range.containerID);
}
