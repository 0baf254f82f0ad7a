// What pods leave: the host's objects, and the files that the daemon and the IPAM plugin keep of pods. To be compared with
// how it was before a request that failed, or a pod that was removed.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { HostSnapshot } from './host-snapshot.ts';
import { type TestNode, untilEqual } from './node.ts';

export interface Traces extends HostSnapshot {
  /** Below the daemon's state directory, its CNI records, its writable layers and the IPAM directory. */
  files: string[];
  /** Ids of the sandboxes that ListPodSandbox shows. */
  sandboxes: string[];
}

export async function tracesOf(node: TestNode): Promise<Traces> {
  const { items } = await node.cri.ListPodSandbox();
  const kept = [
    node.state,
    join(node.root, 'cni'),
    join(node.root, 'containers'),
    join(node.directory, 'ipam'),
  ];
  const files = kept.flatMap(filesBelow);
  return { ...node.snapshot(), files: files.sort(), sandboxes: items.map(({ id }) => id).sort() };
}

/** The traces of a node that has run a pod: its bridge and its parent cgroup are there, and stay. */
export async function tracesAfterAPod(node: TestNode): Promise<Traces> {
  await node.runPod();
  await node.removeAll();
  return tracesOf(node);
}

/** Asserts that nothing was left. The kernel takes interfaces away some time after their namespace, so this waits. */
export async function expectUnchanged(node: TestNode, before: Traces): Promise<void> {
  await untilEqual(() => tracesOf(node), before);
}

function filesBelow(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  } catch {
    return []; // not made yet, or going away
  }
  return names
    .filter(
      name =>
        !/(^|\/)(lock|last_reserved_ip\.\d|drafts|results)$|^(containers|exits|sandboxes|oci(\/[^/]+)?)$/.test(
          name,
        ),
    )
    .map(name => join(directory, name));
}
