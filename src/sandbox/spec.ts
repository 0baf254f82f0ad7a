// The OCI spec of a pod's pause container: it holds the pod's namespaces open, and does nothing else. It runs
// with no capability, as nobody, on a read-only root with the bare mounts that runtimes need to start a process.
import type { PodSandboxConfig } from '../cri-api/types.ts';
import { CriError } from '../errors.ts';
import { passedThrough, sandboxAnnotations } from '../oci/spec/annotations.ts';
import { noCapabilities } from '../oci/spec/capabilities.ts';
import { buildCgroupsPath } from '../oci/spec/cgroups-path.ts';
import { allowAllDevices, denyAllDevices } from '../oci/spec/devices.ts';
import type { HostFacts } from '../oci/spec/host-facts.ts';
import { buildOomScoreAdj } from '../oci/spec/limits.ts';
import { hostLookups, type SpecLookups } from '../oci/spec/lookups.ts';
import { devMount, procMount } from '../oci/spec/mounts.ts';
import { type IdMappings, sandboxNamespaces, userMappings } from '../oci/spec/namespaces.ts';
import { refuse } from '../oci/spec/refuse.ts';
import { buildSeccomp, type SeccompChoice } from '../oci/spec/seccomp.ts';
import { buildSelinuxLabels } from '../oci/spec/selinux.ts';
import { buildSysctls } from '../oci/spec/sysctls.ts';
import { type Mount, ociVersion, type RuntimeSpec } from '../oci/spec/types.ts';
import { resolveUser } from '../oci/spec/user.ts';

/** What the configuration says, about the runtime handler and in general. */
export interface SandboxSpecOptions {
  systemdCgroup: boolean;
  podAnnotations: readonly string[];
  restrictOomScoreAdj: boolean;
  selinux: boolean;
  unsetSeccompProfile: SeccompChoice;
  unprivilegedPorts: boolean;
  unprivilegedIcmp: boolean;
}

export const defaultSandboxSpecOptions: SandboxSpecOptions = {
  systemdCgroup: false,
  podAnnotations: [],
  restrictOomScoreAdj: false,
  selinux: false,
  unsetSeccompProfile: { kind: 'unconfined' },
  unprivilegedPorts: true,
  unprivilegedIcmp: true,
};

/** The built-in pause program: catatonit in its pause mode, which also reaps what a shared PID namespace orphans. */
export const builtInPauseArgs: readonly string[] = ['/pause', '-P'];

export interface SandboxSpecInput {
  sandboxId: string;
  config: PodSandboxConfig;
  /**
   * Where the pod's network namespace is bound; undefined with the host's network. For a pod with a user namespace
   * it must belong to that one: give `usernsPath` too, or leave both out and bind what the runtime has made.
   */
  netnsPath?: string | undefined;
  /** Where the user namespace that owns it is bound; undefined = the runtime makes one when the pod has one. */
  usernsPath?: string | undefined;
  /** Root filesystem of the pause program, absolute; it needs the directories /proc and /dev, and is never written to. */
  rootfs: string;
  pause: {
    args: readonly string[];
    env?: readonly string[];
    cwd?: string;
    /** Image for the annotations; empty for the built-in program. */
    image?: string;
    /** The program is of the host's own ABI: lets its seccomp filter be the short one. */
    native: boolean;
  };
  /** Level of its SELinux labels when it names none. */
  selinuxLevel: string;
  host: HostFacts;
  options: SandboxSpecOptions;
  /** Default: the real host. */
  lookups?: SpecLookups;
}

export interface SandboxSpec {
  spec: RuntimeSpec;
  /** What was asked for but clamped or left out, for the log. */
  warnings: string[];
}

/** What pause images run as. */
const pauseUser = 65535;
/** The pause process must be the last the kernel kills in a pod. */
const pauseOomScoreAdj = -998;
/** The least the kernel takes: pause only waits. */
const pauseCpuShares = 2;
/** utsname holds so many bytes (__NEW_UTS_LEN). */
const maxHostname = 64;

/**
 * Hidden from the pod even here: a process that shares the pause container's PID namespace can reach its
 * mounts through /proc/1/root. Costs nothing measurable beside the runtime's own start.
 */
const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** How errors name the sandbox. */
export function sandboxSubject({
  sandboxId,
  config,
}: Pick<SandboxSpecInput, 'sandboxId' | 'config'>): string {
  return `sandbox "${config.metadata?.namespace ?? ''}/${config.metadata?.name ?? ''}" (${sandboxId})`;
}

/**
 * Builds the spec. Reads through `lookups` and changes nothing on the host.
 * Throws CriError invalidArgument naming sandbox and field for everything in the request that cannot be had.
 */
export async function buildSandboxSpec(input: SandboxSpecInput): Promise<SandboxSpec> {
  const { sandboxId, config, pause, host, options, lookups = hostLookups } = input;
  const subject = sandboxSubject(input);
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const context = config.linux?.securityContext ?? null;
  const namespaces = context?.namespaceOptions ?? null;
  const hostNetwork = namespaces?.network === 'NODE';
  if (Buffer.byteLength(config.hostname) > maxHostname) {
    refuse(subject, 'hostname', `"${config.hostname}" is longer than ${maxHostname} bytes`);
  }
  const mappings = userMappings(subject, namespaces?.usernsOptions);
  if (mappings !== undefined && input.netnsPath !== undefined && input.usernsPath === undefined) {
    // The pause container would start, but its containers, inside the user namespace, could not join the network.
    throw new CriError(
      'unimplemented',
      `${subject}: the network namespace ${input.netnsPath} does not belong to the pod's user namespace; make it inside that, or let the runtime make both`,
    );
  }
  const [seccomp, user] = await Promise.all([
    buildSeccomp({
      subject,
      asked: context?.seccomp ?? null,
      legacyPath: context?.seccompProfilePath ?? '',
      unset: options.unsetSeccompProfile,
      privileged: context?.privileged ?? false,
      capabilities: [],
      nativeOnly: pause.native,
      host,
      lookups,
    }),
    resolveUser({
      subject,
      runAsUser: context?.runAsUser?.value,
      runAsGroup: context?.runAsGroup?.value,
      runAsUsername: '',
      imageUser: defaultUser(mappings),
      supplementalGroups: context?.supplementalGroups ?? [],
      policy: 'Strict',
      // Ids of a pause container are numbers; there is nothing to look up.
      passwd: async () => undefined,
      group: async () => undefined,
    }),
  ]);
  const sysctl = buildSysctls({
    subject,
    asked: config.linux?.sysctls ?? {},
    namespaces,
    unprivilegedPorts: options.unprivilegedPorts,
    unprivilegedIcmp: options.unprivilegedIcmp,
    inUserNamespace: host.inUserNamespace || mappings !== undefined,
  });
  const selinux =
    options.selinux && host.selinuxEnabled
      ? buildSelinuxLabels({
          subject,
          asked: context?.selinuxOptions ?? null,
          podLevel: input.selinuxLevel,
        })
      : undefined;
  const spec: RuntimeSpec = {
    ociVersion,
    // With the host's network there is no UTS namespace of the pod's own, and the host's name stays.
    ...(hostNetwork || config.hostname === '' ? {} : { hostname: config.hostname }),
    process: {
      terminal: false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.supplementalGroups },
      args: [...pause.args],
      env: [...(pause.env ?? [])],
      cwd: pause.cwd ?? '/',
      capabilities: noCapabilities,
      noNewPrivileges: true,
      oomScoreAdj: buildOomScoreAdj({
        subject,
        wanted: pauseOomScoreAdj,
        restrict: options.restrictOomScoreAdj,
        host,
        warn,
      }),
      ...(selinux === undefined || context?.privileged ? {} : { selinuxLabel: selinux.process }),
    },
    root: { path: input.rootfs, readonly: true },
    mounts: [procMount, devMount].map(copied),
    annotations: {
      ...passedThrough(config.annotations, options.podAnnotations),
      ...sandboxAnnotations(sandboxId, config, pause.image ?? ''),
    },
    linux: {
      namespaces: sandboxNamespaces({
        options: namespaces,
        netnsPath: input.netnsPath,
        mappings,
        usernsPath: input.usernsPath,
      }),
      ...(mappings === undefined ? {} : { uidMappings: mappings.uids, gidMappings: mappings.gids }),
      cgroupsPath: buildCgroupsPath({
        subject,
        id: sandboxId,
        parent: config.linux?.cgroupParent ?? '',
        systemd: options.systemdCgroup,
      }),
      // A privileged pod may use every device anyway, and some runtimes need more rights to deny than to allow.
      resources: {
        devices: [context?.privileged ? allowAllDevices : denyAllDevices],
        ...(host.cgroup.cpu ? { cpu: { shares: pauseCpuShares } } : {}),
      },
      ...(seccomp === undefined ? {} : { seccomp }),
      ...(Object.keys(sysctl).length === 0 ? {} : { sysctl }),
      maskedPaths,
      readonlyPaths,
      ...(selinux === undefined ? {} : { mountLabel: selinux.mount }),
    },
  };
  return { spec, warnings };
}

/** Nobody, or root of the pod's user namespace where that maps too few ids to have a nobody. */
function defaultUser(mappings: IdMappings | undefined): string {
  const has = (list: IdMappings['uids']) =>
    list.some(({ containerID, size }) => pauseUser >= containerID && pauseUser < containerID + size);
  return mappings === undefined || (has(mappings.uids) && has(mappings.gids))
    ? `${pauseUser}:${pauseUser}`
    : '0:0';
}

function copied(mount: Mount): Mount {
  return { ...mount, options: [...mount.options] };
}
