// What a pod sandbox is: its durable record, and the live object that the lifecycle's steps work on.
import { z } from 'zod';
import type { PodSandboxConfig } from '../cri-api/types.ts';
import type { RootfsOwners } from '../image/rootfs.ts';
import { type IdMappings, userMappings } from '../oci/spec/namespaces.ts';
import type { Collection } from '../store/store.ts';
import { pluginRunSchema } from './plugin-runs.ts';

const identitySchema = z.object({
  pid: z.number().int().positive(),
  startTime: z.string(),
  bootId: z.string().default(''),
});
const stepTimeSchema = z.object({ began: z.number(), ms: z.number() });

/**
 * READY once it is up, NOTREADY from then on when anything of it has gone. `starting` is seen by no client: a pod
 * that did not come up is undone, or NOTREADY when undoing failed.
 */
export const sandboxPhases = ['starting', 'ready', 'notready'] as const;

export const sandboxRecordSchema = z.object({
  id: z.string(),
  /** name_namespace_uid_attempt: the name that only one sandbox may hold. */
  name: z.string(),
  config: z.custom<PodSandboxConfig>(
    value => typeof value === 'object' && value !== null && 'metadata' in value,
  ),
  /** Name of the runtime handler, never empty. */
  handler: z.string(),
  /** The handler as RunPodSandbox named it: '' for the default, which is what clients compare. */
  requestedHandler: z.string(),
  /** Nanoseconds since the epoch, decimal. */
  createdAt: z.string(),
  phase: z.enum(sandboxPhases),
  /** Where its network namespace is bound; null when it uses the host's. */
  netnsPath: z.string().nullable(),
  /** Where the user namespace that owns the network namespace is bound; null when it has none of its own. */
  usernsPath: z.string().nullable().default(null),
  /** Level of its SELinux labels when it names none: no other pod has it. */
  selinuxLevel: z.string().default(''),
  /** The pause process, while it is known to run. */
  pause: identitySchema.nullable(),
  /** What the CNI chain gave; null before ADD and after DEL. */
  network: z
    .object({
      /** The pod's main address first. */
      ips: z.array(z.string()),
      attachments: z.array(z.custom<SandboxAttachment>(value => typeof value === 'object' && value !== null)),
    })
    .nullable(),
  /** Each execution of a plugin that brought its network up, in order. */
  pluginRuns: z.array(pluginRunSchema).default([]),
  owed: z.array(z.string()),
  times: z.record(z.string(), stepTimeSchema),
});

/** One network of the pod, as its plugins answered. */
export interface SandboxAttachment {
  network: string;
  ifName: string;
  file: string | undefined;
  result: unknown;
}

export type SandboxRecord = z.infer<typeof sandboxRecordSchema>;

/** A live sandbox. Its fields are the record; `save` makes them durable. */
export type Sandbox = SandboxRecord & {
  save(): Promise<void>;
  /** Removes the record; later saves do nothing. */
  forget(): Promise<void>;
};

/** Binds a record to its collection. What is written is JSON, which the two functions are not part of. */
export function bindSandbox(record: SandboxRecord, records: Collection<SandboxRecord>): Sandbox {
  let forgotten = false;
  return Object.assign(record, {
    async save() {
      if (!forgotten) await records.put(record.id, record);
    },
    async forget() {
      forgotten = true;
      await records.remove(record.id);
    },
  });
}

/** The name that a sandbox reserves, from its metadata. Underscores within a part are escaped: no two pods share one. */
export function sandboxName(metadata: {
  name: string;
  namespace: string;
  uid: string;
  attempt: number;
}): string {
  const { name, namespace, uid, attempt } = metadata;
  return [name, namespace, uid, attempt].map(part => String(part).replace(/[\\_]/g, '\\$&')).join('_');
}

export function usesHostNetwork(config: PodSandboxConfig): boolean {
  return config.linux?.securityContext?.namespaceOptions?.network === 'NODE';
}

/** The mappings of the pod's own user namespace; undefined when it is in the node's. @throws CriError invalidArgument */
export function userNamespaceOf(config: PodSandboxConfig): IdMappings | undefined {
  const { namespace, name } = config.metadata ?? { namespace: '', name: '' };
  const asked = config.linux?.securityContext?.namespaceOptions?.usernsOptions;
  return userMappings(`sandbox "${namespace}/${name}"`, asked);
}

/** What the pod's files must belong to; undefined = what they belong to anyway. */
export function ownersIn(sandbox: Sandbox): RootfsOwners | undefined {
  const mappings = userNamespaceOf(sandbox.config);
  // With the host's network the runtime makes the namespace, and the pause process holds it.
  const path = sandbox.usernsPath ?? (sandbox.pause ? `/proc/${sandbox.pause.pid}/ns/user` : undefined);
  return mappings && path !== undefined ? { path, ...mappings } : undefined;
}

export function usesHostIpc(config: PodSandboxConfig): boolean {
  return config.linux?.securityContext?.namespaceOptions?.ipc === 'NODE';
}
