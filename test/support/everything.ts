// Everything that a pod may leave: on the host, in the directories of its node, and open in its daemon.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { open } from 'lmdb';
import { descriptorsOf } from './descriptors.ts';
import type { HostSnapshot } from './host-snapshot.ts';
import { type TestNode, until } from './node.ts';

export interface Everything extends HostSnapshot {
  /** Paths below root and state, and the addresses that are reserved. */
  files: string[];
  /** What the daemon holds open. */
  descriptors: string[];
  /** Keys of the daemon's records, such as `sandboxes/ID`. */
  records: string[];
  /** Children of the daemon that ended and that it has not waited for. */
  zombies: string[];
}

/** What is there now; to be compared with what was there before. */
export function everything(node: TestNode): Everything {
  return {
    ...node.snapshot(),
    files: ['root', 'run', 'ipam'].flatMap(name => pathsBelow(join(node.directory, name))),
    descriptors: descriptorsOf(node),
    records: recordsOf(node),
    zombies: zombiesOf(node),
  };
}

/** Read beside the daemon; but for `unflushed`, which is there for as long as the disk takes to write images down. */
function recordsOf(node: TestNode): string[] {
  const root = open({ path: join(node.root, 'store'), readOnly: true, maxDbs: 16, encoding: 'json' });
  try {
    const collections = [...root.getKeys()].map(String).filter(name => !/^(format|unflushed)$/.test(name));
    return collections.flatMap(name =>
      [...root.openDB({ name, encoding: 'string' }).getKeys()].map(key => `${name}/${String(key)}`),
    );
  } finally {
    void root.close();
  }
}

function zombiesOf(node: TestNode): string[] {
  const daemon = String(node.pid());
  return readdirSync('/proc').flatMap(pid => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return state === 'Z' && parent === daemon
        ? [stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'))]
        : [];
    } catch {
      return []; // it is gone
    }
  });
}

/**
 * The store's own files, which grow and are never cleared, the plugin's note of where to look for the next address, and
 * the socket.
 */
const notOfPods = /\/root\/(store\/|lock$)|\/ipam\/.*(last_reserved_ip|lock)/;

function pathsBelow(directory: string): string[] {
  const entries = readEntries(directory);
  return entries
    .flatMap(entry => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? [path, ...pathsBelow(path)] : [path];
    })
    .filter(path => !notOfPods.test(path));
}

function readEntries(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return []; // it went meanwhile, or was never made
  }
}

/** Runs a pod once, for what the first one leaves for good (a bridge, empty directories), and says what is there then. */
export async function afterOnePod(node: TestNode): Promise<Everything> {
  await node.output(await node.runPod(), 'true');
  await until('the first pod is gone', async () => (await cleanUp(node)).length === 0 || undefined);
  // Files of its cgroups stay open until statistics are collected the next time.
  await until('the first pod is forgotten', () => !descriptorsOf(node).some(isOfCgroup) || undefined);
  return everything(node);
}

const isOfCgroup = (path: string) => path.startsWith('/sys/fs/cgroup/');

/** Removes every pod and container in the way kubelet does; what fails is tried again by the next call, as kubelet does. */
export async function cleanUp({ cri }: TestNode): Promise<unknown[]> {
  const failures: unknown[] = [];
  const attempt = (call: Promise<unknown>) => call.catch(error => failures.push(error));
  const containers = (await cri.ListContainers()).containers;
  for (const { id } of containers) await attempt(cri.StopContainer({ containerId: id, timeout: 0 }));
  const pods = (await cri.ListPodSandbox()).items;
  for (const { id } of pods) await attempt(cri.StopPodSandbox({ podSandboxId: id }));
  for (const { id } of containers) await attempt(cri.RemoveContainer({ containerId: id }));
  for (const { id } of pods) await attempt(cri.RemovePodSandbox({ podSandboxId: id }));
  return failures;
}

/** Cleans up until the node is as it was `before`. Throws with what is too many or missing, when it does not become so. */
export async function untilAsBefore(node: TestNode, before: Everything): Promise<void> {
  let failures: unknown[] = [];
  const began = Date.now();
  const tooLong = () => Date.now() - began > 50_000;
  await until('the node is as it was', async () => {
    failures = await cleanUp(node);
    const left = differences(before, everything(node));
    if (left.length === 0 && failures.length === 0) return true;
    if (tooLong()) throw new Error([...left, ...failures.map(String)].join('\n'));
    return undefined;
  });
}

/** Lines such as `netns: cni-1 is left` for all that differs. */
export function differences(before: Everything, after: Everything): string[] {
  return (Object.keys(before) as (keyof Everything)[]).flatMap(kind => [
    ...without(after[kind], before[kind]).map(item => `${kind}: ${item} is left`),
    ...without(before[kind], after[kind]).map(item => `${kind}: ${item} is missing`),
  ]);
}

function without(all: readonly string[], known: readonly string[]): string[] {
  const rest = [...known];
  return all.filter(item => {
    const at = rest.indexOf(item);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}
