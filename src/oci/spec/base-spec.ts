// The spec that a runtime handler's containers start from (`base_runtime_spec`): what an administrator wants in every
// container, such as rlimits, hooks or a seccomp filter. What the CRI, the image and the pod say is laid over it.
import { z } from 'zod';
import { CriError, messageOf } from '../../errors.ts';
import type { Hook, HookName, Mount, RuntimeSpec } from './types.ts';

const hookSchema = z.looseObject({ path: z.string() });
const hooksSchema = z.partialRecord(
  z.enum(['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop']),
  z.array(hookSchema),
);
const mountSchema = z.looseObject({
  destination: z.string().startsWith('/'),
  type: z.string().default('bind'),
  source: z.string().default(''),
  options: z.array(z.string()).default([]),
});
const deviceSchema = z.looseObject({
  type: z.enum(['c', 'b', 'p', 'u']),
  path: z.string(),
});

/** What is merged is named; everything else of the file is passed on to the runtime as it stands. */
const baseSpecSchema = z.looseObject({
  ociVersion: z.string(),
  process: z
    .looseObject({
      env: z.array(z.string()).default([]),
      cwd: z.string().default('/'),
      rlimits: z
        .array(z.object({ type: z.string(), soft: z.number().int(), hard: z.number().int() }))
        .default([]),
      capabilities: z.looseObject({ bounding: z.array(z.string()).default([]) }).optional(),
    })
    .prefault({}),
  mounts: z.array(mountSchema).default([]),
  annotations: z.record(z.string(), z.string()).default({}),
  hooks: hooksSchema.default({}),
  linux: z
    .looseObject({
      devices: z.array(deviceSchema).default([]),
      resources: z.looseObject({ devices: z.array(z.looseObject({})).default([]) }).prefault({}),
      namespaces: z.array(z.looseObject({ type: z.string() })).default([]),
      sysctl: z.record(z.string(), z.string()).default({}),
    })
    .prefault({}),
});

export type BaseSpec = z.infer<typeof baseSpecSchema>;

/** Reads the text of the file at `path`. @throws CriError invalidArgument naming the file and what is wrong in it */
export function parseBaseSpec(text: string, path: string): BaseSpec {
  try {
    return baseSpecSchema.parse(JSON.parse(text));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    throw new CriError('invalidArgument', `base_runtime_spec ${path} is no OCI runtime spec: ${why}`);
  }
}

/** Mounts that depend on the container (privileged, cgroup_writable, its namespaces): never the file's. */
const ownMounts: readonly string[] = ['/sys', '/sys/fs/cgroup'];
/** Hides what images keep there; containerd leaves it out of its own defaults for pods, too. */
const leftOut = '/run';

/**
 * The container's spec over the file's. Namespaces, root, user, arguments, masked paths and cgroup path are the
 * container's; environment, rlimits, mounts, devices, hooks and annotations are both, the container's winning.
 */
export function overBaseSpec(
  base: BaseSpec,
  spec: RuntimeSpec,
  { privileged }: { privileged: boolean },
): RuntimeSpec {
  // The pod's UTS namespace is shared: its name is not one container's to set.
  const { hostname: _hostname, domainname: _domainname, ...rest } = base;
  const { apparmorProfile, selinuxLabel, ...process } = base.process;
  const { seccomp, ...linux } = base.linux;
  const unprivileged = privileged ? {} : { apparmorProfile, selinuxLabel };
  return dropUndefined({
    ...rest,
    ...spec,
    ociVersion: base.ociVersion,
    process: dropUndefined({
      ...process,
      ...unprivileged,
      ...spec.process,
      env: byKey([...base.process.env, ...spec.process.env], entry => entry.split('=', 1)[0] ?? ''),
      rlimits: byKey([...base.process.rlimits, ...(spec.process.rlimits ?? [])], ({ type }) => type),
    }),
    mounts: mergedMounts(base.mounts, spec.mounts),
    annotations: { ...base.annotations, ...spec.annotations },
    hooks: mergedHooks(base.hooks, spec.hooks ?? {}),
    linux: dropUndefined({
      ...linux,
      ...(privileged ? {} : { seccomp }),
      ...spec.linux,
      sysctl: { ...base.linux.sysctl, ...spec.linux.sysctl },
      devices: byKey([...base.linux.devices, ...(spec.linux.devices ?? [])], ({ path }) => path),
      namespaces: [
        ...spec.linux.namespaces,
        // One that the CRI has no word for is the administrator's choice alone.
        ...base.linux.namespaces.filter(({ type }) => type === 'time'),
      ],
      resources: {
        ...base.linux.resources,
        ...spec.linux.resources,
        devices: mergedDeviceRules(base, spec, privileged),
      },
    }),
  }) as RuntimeSpec;
}

/** Later entries win, in the place of the first of their key. */
function byKey<T>(entries: readonly T[], key: (entry: T) => string): T[] {
  return [...new Map(entries.map(entry => [key(entry), entry])).values()];
}

/** In the file's order: first the kernel's file systems, the file's options before ours, then what is bound. */
function mergedMounts(base: BaseSpec['mounts'], built: readonly Mount[]): Mount[] {
  const bound = new Set(built.filter(({ type }) => type === 'bind').map(({ destination }) => destination));
  const hidden = (destination: string) =>
    destination === leftOut ||
    ownMounts.includes(destination) ||
    bound.has(destination) ||
    (bound.has('/dev') && destination.startsWith('/dev/'));
  const kept = base.filter(({ destination }) => !hidden(destination));
  const keptAt = new Map(kept.map(mount => [mount.destination, mount]));
  const isKernel = ({ type }: Mount) => type !== 'bind';
  const kernel = built.filter(isKernel).map(mount => keptAt.get(mount.destination) ?? mount);
  const there = new Set(kernel.map(({ destination }) => destination));
  const further = kept.filter(({ destination }) => !there.has(destination));
  return [...kernel, ...further, ...built.filter(mount => !isKernel(mount))];
}

function mergedHooks(
  base: BaseSpec['hooks'],
  built: NonNullable<RuntimeSpec['hooks']>,
): RuntimeSpec['hooks'] {
  const names = [...new Set([...Object.keys(base), ...Object.keys(built)])] as HookName[];
  if (names.length === 0) return undefined;
  return Object.fromEntries(
    names.map(name => [name, [...((base[name] ?? []) as Hook[]), ...(built[name] ?? [])]]),
  );
}

/** The file's rules come between "nothing" and what the pod asks for; a privileged container's one rule stays alone. */
function mergedDeviceRules(base: BaseSpec, spec: RuntimeSpec, privileged: boolean): unknown[] {
  const [first, ...asked] = spec.linux.resources.devices ?? [];
  if (first === undefined) return base.linux.resources.devices;
  if (privileged && first.allow) return [first, ...asked];
  return [first, ...base.linux.resources.devices, ...asked];
}

function dropUndefined(table: object): object {
  return Object.fromEntries(Object.entries(table).filter(([, value]) => value !== undefined));
}
