// The format of seccomp profiles: the OCI one (config-linux.md, Seccomp) together with what Docker's profile
// files add to it, conditions on capabilities, architectures and kernels. `expandProfile` settles the
// conditions for one container and leaves plain OCI.
import { z } from 'zod';
import type { HostFacts } from './host-facts.ts';
import type { Seccomp } from './types.ts';

const action = z.enum([
  'SCMP_ACT_KILL',
  'SCMP_ACT_KILL_PROCESS',
  'SCMP_ACT_KILL_THREAD',
  'SCMP_ACT_TRAP',
  'SCMP_ACT_ERRNO',
  'SCMP_ACT_TRACE',
  'SCMP_ACT_ALLOW',
  'SCMP_ACT_LOG',
  'SCMP_ACT_NOTIFY',
]);

const operator = z.enum([
  'SCMP_CMP_NE',
  'SCMP_CMP_LT',
  'SCMP_CMP_LE',
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_MASKED_EQ',
]);

const number = z.int().nonnegative();
/** Profiles written by Go programs have null for an empty list. */
const listOf = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform(list => list ?? undefined);

const condition = z.object({
  /** In `includes` all of them, in `excludes` any of them. */
  caps: listOf(z.string()),
  /** Any of them; Go's names (amd64) or Node's (x64). */
  arches: listOf(z.string()),
  minKernel: z.string().optional(),
});

const rule = z.object({
  names: listOf(z.string()),
  /** Docker's older form of `names`. */
  name: z.string().optional(),
  action,
  errnoRet: number.optional(),
  args: listOf(z.object({ index: number.max(5), value: number, valueTwo: number.optional(), op: operator })),
  includes: condition.nullish(),
  excludes: condition.nullish(),
});

export const seccompProfileSchema = z.object({
  defaultAction: action,
  defaultErrnoRet: number.optional(),
  architectures: listOf(z.string().regex(/^SCMP_ARCH_/)),
  archMap: listOf(z.object({ architecture: z.string(), subArchitectures: listOf(z.string()) })),
  flags: listOf(z.string()),
  listenerPath: z.string().optional(),
  listenerMetadata: z.string().optional(),
  syscalls: listOf(rule),
});

interface Condition {
  readonly caps?: readonly string[] | undefined;
  readonly arches?: readonly string[] | undefined;
  readonly minKernel?: string | undefined;
}

export interface ProfileRule {
  readonly names?: readonly string[] | undefined;
  readonly name?: string | undefined;
  readonly action: string;
  readonly errnoRet?: number | undefined;
  readonly args?:
    | readonly {
        readonly index: number;
        readonly value: number;
        readonly valueTwo?: number | undefined;
        readonly op: string;
      }[]
    | undefined;
  readonly includes?: Condition | null | undefined;
  readonly excludes?: Condition | null | undefined;
}

export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number | undefined;
  readonly architectures?: readonly string[] | undefined;
  readonly archMap?:
    | readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] | undefined }[]
    | undefined;
  readonly flags?: readonly string[] | undefined;
  readonly listenerPath?: string | undefined;
  readonly listenerMetadata?: string | undefined;
  readonly syscalls?: readonly ProfileRule[] | undefined;
}

/** process.arch -> the ABIs its kernel runs, the native one first. */
const abis: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  ia32: ['SCMP_ARCH_X86'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  arm: ['SCMP_ARCH_ARM'],
  ppc64: ['SCMP_ARCH_PPC64LE'],
  s390x: ['SCMP_ARCH_S390X', 'SCMP_ARCH_S390'],
  riscv64: ['SCMP_ARCH_RISCV64'],
  loong64: ['SCMP_ARCH_LOONGARCH64'],
};

/** Go's name, as profile files use it, of a process.arch. */
const goArch: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

export interface ProfileTarget {
  readonly host: Pick<HostFacts, 'arch' | 'kernel'>;
  /** Bounding set of the container. */
  readonly capabilities: readonly string[];
  /**
   * The filter is for the native ABI alone: for a program known to be native. Compiling the filter for the
   * two further ABIs of x86-64 takes runc 5 ms.
   */
  readonly nativeOnly?: boolean;
}

/** The profile for one container, as config.json has it. */
export function expandProfile(profile: SeccompProfile, target: ProfileTarget): Seccomp {
  const { defaultAction, defaultErrnoRet, flags, listenerPath, listenerMetadata } = profile;
  const architectures = architecturesOf(profile, target);
  return {
    defaultAction,
    ...(defaultErrnoRet === undefined ? {} : { defaultErrnoRet }),
    ...(architectures.length === 0 ? {} : { architectures }),
    ...(flags === undefined ? {} : { flags: [...flags] }),
    ...(listenerPath === undefined ? {} : { listenerPath }),
    ...(listenerMetadata === undefined ? {} : { listenerMetadata }),
    syscalls: (profile.syscalls ?? []).filter(rule => applies(rule, target)).map(plainRule),
  };
}

function architecturesOf(profile: SeccompProfile, { host, nativeOnly }: ProfileTarget): string[] {
  if (profile.architectures !== undefined && profile.architectures.length > 0)
    return [...profile.architectures];
  const known = abis[host.arch] ?? [];
  if (nativeOnly) return known.slice(0, 1);
  const mapped = profile.archMap?.find(entry => entry.architecture === known[0]);
  return mapped === undefined ? [...known] : [mapped.architecture, ...(mapped.subArchitectures ?? [])];
}

function applies({ includes, excludes }: ProfileRule, target: ProfileTarget): boolean {
  return included(includes, target) && !excluded(excludes, target);
}

function included(condition: Condition | null | undefined, target: ProfileTarget): boolean {
  const { caps = [], arches = [], minKernel } = condition ?? {};
  return (
    caps.every(cap => target.capabilities.includes(cap)) &&
    (arches.length === 0 || arches.some(arch => isArch(arch, target))) &&
    (minKernel === undefined || isKernelAtLeast(minKernel, target))
  );
}

function excluded(condition: Condition | null | undefined, target: ProfileTarget): boolean {
  const { caps = [], arches = [], minKernel } = condition ?? {};
  return (
    caps.some(cap => target.capabilities.includes(cap)) ||
    arches.some(arch => isArch(arch, target)) ||
    (minKernel !== undefined && isKernelAtLeast(minKernel, target))
  );
}

function isArch(name: string, { host }: ProfileTarget): boolean {
  return name === host.arch || name === goArch[host.arch];
}

function isKernelAtLeast(version: string, { host: { kernel } }: ProfileTarget): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return kernel.major > major || (kernel.major === major && kernel.minor >= minor);
}

function plainRule(rule: ProfileRule): NonNullable<Seccomp['syscalls']>[number] {
  const names = [...(rule.names ?? []), ...(rule.name === undefined ? [] : [rule.name])];
  return {
    names,
    action: rule.action,
    ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
    ...(rule.args === undefined || rule.args.length === 0
      ? {}
      : {
          args: rule.args.map(({ index, value, valueTwo, op }) => ({
            index,
            value,
            ...(valueTwo === undefined ? {} : { valueTwo }),
            op,
          })),
        }),
  };
}
