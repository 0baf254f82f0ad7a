// What a container is: its durable record, and the live object that the lifecycle's steps work on.
import { z } from 'zod';
import type { ContainerConfig, LinuxContainerResources } from '../cri-api/types.ts';
import type { Collection } from '../store/store.ts';

const identitySchema = z.object({
  pid: z.number().int().positive(),
  startTime: z.string(),
  bootId: z.string().default(''),
});
const stepTimeSchema = z.object({ began: z.number(), ms: z.number() });
const isObject = (value: unknown) => typeof value === 'object' && value !== null;

/** `creating` and `starting` are seen by no client as such: they are undone when they are not finished. */
export const containerPhases = ['creating', 'created', 'starting', 'running', 'exited'] as const;

export const containerRecordSchema = z.object({
  id: z.string(),
  /** name_pod_namespace_uid_attempt: the name that only one container may hold. */
  name: z.string(),
  sandboxId: z.string(),
  config: z.custom<ContainerConfig>(value => isObject(value) && 'metadata' in (value as object)),
  /** Name of the pod's runtime handler. */
  handler: z.string(),
  /** sha256:... of the image config. */
  imageId: z.string(),
  /** A digest or name by which the image was found, for ContainerStatus.image_ref. */
  imageRef: z.string(),
  phase: z.enum(containerPhases),
  /** Nanoseconds since the epoch, decimal; `0` = it has not happened. */
  createdAt: z.string(),
  startedAt: z.string(),
  finishedAt: z.string(),
  exitCode: z.number().int(),
  reason: z.string(),
  message: z.string(),
  /** conmon, while it is known to run. */
  monitor: identitySchema.nullable(),
  /** The container's first process, while it is known to run. */
  init: identitySchema.nullable(),
  /** Absolute path of the log; null when the pod wants none. */
  logPath: z.string().nullable(),
  /** Signal number that asks it to stop. */
  stopSignal: z.number().int(),
  user: z.object({ uid: z.number(), gid: z.number(), supplementalGroups: z.array(z.number()) }),
  /** As last set by CreateContainer or UpdateContainerResources. */
  resources: z.custom<LinuxContainerResources>(isObject).nullable(),
  /** Images mounted as volumes: the id under which each root file system is kept. */
  imageVolumes: z.array(z.object({ rootfsId: z.string(), imageId: z.string() })),
  /** The checkpoint that it goes on from, instead of starting its program. */
  restore: z
    .discriminatedUnion('kind', [
      z.object({ kind: z.literal('archive'), path: z.string() }),
      z.object({ kind: z.literal('image'), imageId: z.string() }),
    ])
    .nullable()
    .default(null),
  /** It is held still while its checkpoint is written. */
  held: z.boolean().default(false),
  owed: z.array(z.string()),
  times: z.record(z.string(), stepTimeSchema),
});

export type ContainerRecord = z.infer<typeof containerRecordSchema>;

/** A live container. Its fields are the record; `save` makes them durable. */
export type Container = ContainerRecord & {
  save(): Promise<void>;
  /** Removes the record; later saves do nothing. */
  forget(): Promise<void>;
  /** Resolves when a started container has ended and its end is recorded; set by StartContainer. */
  ended: Promise<void>;
  /** The stop signal was sent: programs take a second one for impatience, so it is sent once. */
  askedToStop: boolean;
};

/** Binds a record to its collection. What is written is JSON; functions and promises are no part of it. */
export function bindContainer(record: ContainerRecord, records: Collection<ContainerRecord>): Container {
  let forgotten = false;
  return Object.assign(record, {
    ended: Promise.resolve(),
    askedToStop: false,
    async save() {
      if (!forgotten) await records.put(record.id, record);
    },
    async forget() {
      forgotten = true;
      await records.remove(record.id);
    },
  });
}

/** Nanoseconds since the epoch of now, as records and the CRI have them. */
export function nowNs(): string {
  return `${Date.now()}000000`;
}

/** What ContainerStatus.reason says of an end. */
export function exitReason(code: number, oomKilled: boolean): string {
  if (oomKilled) return 'OOMKilled';
  return code === 0 ? 'Completed' : 'Error';
}
