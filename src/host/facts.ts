// What this host is and allows, as far as an OCI spec depends on it: read once when the daemon starts and
// handed to the spec builders as plain data, so that they need no /proc and can be tested anywhere.
import { access, readFile } from 'node:fs/promises';
import { hostname, release } from 'node:os';
import { codeOf } from '../errors.ts';
import { type CapabilityName, capabilitiesOfMask } from './capabilities.ts';

/** A resource limit as getrlimit(2) has it; undefined = unlimited. */
export interface HostRlimit {
  readonly soft: number | undefined;
  readonly hard: number | undefined;
}

export interface HostFacts {
  /** As process.arch: x64, arm64, ... */
  readonly arch: string;
  readonly kernel: { readonly major: number; readonly minor: number };
  readonly hostname: string;
  readonly cgroup: {
    /** 2 only when /sys/fs/cgroup itself is cgroup2; a hybrid layout is 1. */
    readonly version: 1 | 2;
    /** Limits on memory plus swap can be set. */
    readonly swap: boolean;
    readonly hugetlb: boolean;
    readonly cpu: boolean;
  };
  /** Bounding set of this process: no container can have more. */
  readonly capBounding: readonly CapabilityName[];
  /** CAP_SYS_RESOURCE is effective: oom_score_adj can be lowered, hard rlimits raised. */
  readonly hasCapSysResource: boolean;
  /** This process's own oom_score_adj, -1000 to 1000. */
  readonly oomScoreAdj: number;
  /** This process's limits by OCI name (`RLIMIT_NOFILE`). */
  readonly rlimits: ReadonlyMap<string, HostRlimit>;
  readonly apparmorEnabled: boolean;
  readonly selinuxEnabled: boolean;
  readonly seccompEnabled: boolean;
  /** What this process was started with and cannot hand back, so that every container has it, too; in words. */
  readonly passedOn: readonly string[];
  /** This process is not in the initial user namespace. */
  readonly inUserNamespace: boolean;
}

/** Reads the facts from /proc and /sys. A file that does not exist counts as the feature being absent. */
export async function gatherHostFacts(): Promise<HostFacts> {
  const [status, limits, oomScoreAdj, cgroup, apparmor, selinux, uidMap] = await Promise.all([
    readFile('/proc/self/status', 'utf8'),
    readFile('/proc/self/limits', 'utf8'),
    readFile('/proc/self/oom_score_adj', 'utf8'),
    gatherCgroupFacts(),
    readIfThere('/sys/module/apparmor/parameters/enabled'),
    exists('/sys/fs/selinux/enforce'),
    readIfThere('/proc/self/uid_map'),
  ]);
  return {
    arch: process.arch,
    kernel: parseKernelRelease(release()),
    hostname: hostname(),
    cgroup,
    capBounding: capabilitiesOfMask(statusField(status, 'CapBnd') ?? '0'),
    hasCapSysResource: capabilitiesOfMask(statusField(status, 'CapEff') ?? '0').includes('CAP_SYS_RESOURCE'),
    oomScoreAdj: Number(oomScoreAdj.trim()),
    rlimits: parseLimits(limits),
    apparmorEnabled: apparmor?.startsWith('Y') ?? false,
    selinuxEnabled: selinux,
    seccompEnabled: statusField(status, 'Seccomp') !== undefined,
    passedOn: passedOn(status),
    inUserNamespace: uidMap !== undefined && !/^\s*0\s+0\s+4294967295\s*$/.test(uidMap),
  };
}

/** Restrictions in a `/proc/PID/status` that children inherit whatever their spec says (seccomp(2), prctl(2)). */
export function passedOn(status: string): string[] {
  return [
    ...(statusField(status, 'Seccomp') === '2' ? ['a seccomp filter'] : []),
    ...(statusField(status, 'NoNewPrivs') === '1' ? ['no_new_privs'] : []),
  ];
}

async function gatherCgroupFacts(): Promise<HostFacts['cgroup']> {
  const controllers = await readIfThere('/sys/fs/cgroup/cgroup.controllers');
  if (controllers === undefined) {
    const [swap, hugetlb, cpu] = await Promise.all([
      exists('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'),
      exists('/sys/fs/cgroup/hugetlb'),
      exists('/sys/fs/cgroup/cpu'),
    ]);
    return { version: 1, swap, hugetlb, cpu };
  }
  // memory.swap.max does not exist in the root of the hierarchy, so look where this process is.
  const own = (await readIfThere('/proc/self/cgroup'))?.match(/^0::(.*)$/m)?.[1] ?? '/';
  return {
    version: 2,
    swap: await exists(`/sys/fs/cgroup${own}/memory.swap.max`),
    hugetlb: controllers.split(/\s+/).includes('hugetlb'),
    cpu: controllers.split(/\s+/).includes('cpu'),
  };
}

/** `6.1.0-13-amd64` -> 6.1. What cannot be read counts as 0.0, so that version-gated features stay off. */
export function parseKernelRelease(text: string): HostFacts['kernel'] {
  const match = /^(\d+)\.(\d+)/.exec(text);
  return { major: Number(match?.[1] ?? 0), minor: Number(match?.[2] ?? 0) };
}

const limitNames: Readonly<Record<string, string>> = {
  'Max cpu time': 'RLIMIT_CPU',
  'Max file size': 'RLIMIT_FSIZE',
  'Max data size': 'RLIMIT_DATA',
  'Max stack size': 'RLIMIT_STACK',
  'Max core file size': 'RLIMIT_CORE',
  'Max resident set': 'RLIMIT_RSS',
  'Max processes': 'RLIMIT_NPROC',
  'Max open files': 'RLIMIT_NOFILE',
  'Max locked memory': 'RLIMIT_MEMLOCK',
  'Max address space': 'RLIMIT_AS',
  'Max file locks': 'RLIMIT_LOCKS',
  'Max pending signals': 'RLIMIT_SIGPENDING',
  'Max msgqueue size': 'RLIMIT_MSGQUEUE',
  'Max nice priority': 'RLIMIT_NICE',
  'Max realtime priority': 'RLIMIT_RTPRIO',
  'Max realtime timeout': 'RLIMIT_RTTIME',
};

/** Parses /proc/PID/limits (proc_pid_limits(5)): columns are set off by two or more spaces. */
export function parseLimits(text: string): Map<string, HostRlimit> {
  const limits = new Map<string, HostRlimit>();
  for (const line of text.split('\n')) {
    const [title = '', soft = '', hard = ''] = line.split(/\s{2,}/);
    const name = limitNames[title];
    if (name !== undefined) limits.set(name, { soft: limitValue(soft), hard: limitValue(hard) });
  }
  return limits;
}

function limitValue(text: string): number | undefined {
  return text === 'unlimited' ? undefined : Number(text);
}

function statusField(status: string, name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1];
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
