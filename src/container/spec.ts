// The OCI spec of an application container: what the CRI asks for (ContainerConfig, PodSandboxConfig), laid
// over what the image says, within what the host and the runtime handler allow. CreateContainer builds it
// once; UpdateContainerResources changes its limits later (src/oci/spec/resources.ts).
import type { ContainerConfig, PodSandboxConfig } from '../cri-api/types.ts';
import { containerAnnotations, passedThrough } from '../oci/spec/annotations.ts';
import { buildApparmor } from '../oci/spec/apparmor.ts';
import { type BaseSpec, overBaseSpec } from '../oci/spec/base-spec.ts';
import { buildCapabilities } from '../oci/spec/capabilities.ts';
import { buildCgroupsPath } from '../oci/spec/cgroups-path.ts';
import { buildDevices } from '../oci/spec/devices.ts';
import type { HostFacts } from '../oci/spec/host-facts.ts';
import { buildOomScoreAdj, clampRlimits } from '../oci/spec/limits.ts';
import { hostLookups, type SpecLookups } from '../oci/spec/lookups.ts';
import {
  type AnonymousVolume,
  buildMounts,
  type IdmappedMount,
  type ImageVolume,
  imageVolumes,
  type RuntimeFeatures,
  type SandboxFiles,
} from '../oci/spec/mounts.ts';
import { checkSameUserNamespace, containerNamespaces, userMappings } from '../oci/spec/namespaces.ts';
import { commandLine, environment, type ImageConfig, workingDir } from '../oci/spec/process.ts';
import { exactInteger, refuse } from '../oci/spec/refuse.ts';
import { refuseResourceClasses } from '../oci/spec/resource-classes.ts';
import { applyResources } from '../oci/spec/resources.ts';
import { buildSeccomp, type SeccompChoice } from '../oci/spec/seccomp.ts';
import { buildSelinuxLabels, type SelinuxLabels } from '../oci/spec/selinux.ts';
import {
  ociVersion,
  type Process,
  type Resources,
  type Rlimit,
  type RuntimeSpec,
} from '../oci/spec/types.ts';
import { type ResolvedUser, resolveUser } from '../oci/spec/user.ts';

/** What the configuration says, about the runtime handler and in general. */
export interface ContainerSpecOptions {
  systemdCgroup: boolean;
  privilegedWithoutHostDevices: boolean;
  privilegedWithoutHostDevicesAllDevicesAllowed: boolean;
  podAnnotations: readonly string[];
  containerAnnotations: readonly string[];
  cgroupWritable: boolean;
  /** The spec that containers start from; undefined = nothing but what is built here. */
  baseSpec: BaseSpec | undefined;
  features: RuntimeFeatures;
  restrictOomScoreAdj: boolean;
  selinux: boolean;
  apparmor: boolean;
  /** Name of the loaded AppArmor profile that runtime/default means; undefined = there is none. */
  apparmorDefaultProfile: string | undefined;
  unsetSeccompProfile: SeccompChoice;
  deviceOwnershipFromSecurityContext: boolean;
  ignoreImageDefinedVolumes: boolean;
  disableHugetlbController: boolean;
  tolerateMissingHugetlbController: boolean;
  ignoreBlockioClasses: boolean;
  ignoreRdtClasses: boolean;
  /** Processes and threads of the container; undefined = as many as its pod may have. */
  pidsLimit: number | undefined;
  /** Limits every container gets; those not named are inherited from the daemon. */
  rlimits: readonly Rlimit[];
}

/** Options of a node without a configuration file, and the start of those of one with. */
export const defaultContainerSpecOptions: ContainerSpecOptions = {
  systemdCgroup: false,
  privilegedWithoutHostDevices: false,
  privilegedWithoutHostDevicesAllDevicesAllowed: false,
  podAnnotations: [],
  containerAnnotations: [],
  cgroupWritable: false,
  baseSpec: undefined,
  features: { recursiveReadOnlyMounts: false },
  restrictOomScoreAdj: false,
  selinux: false,
  apparmor: true,
  apparmorDefaultProfile: undefined,
  unsetSeccompProfile: { kind: 'unconfined' },
  deviceOwnershipFromSecurityContext: false,
  ignoreImageDefinedVolumes: false,
  disableHugetlbController: true,
  tolerateMissingHugetlbController: true,
  ignoreBlockioClasses: false,
  ignoreRdtClasses: false,
  pidsLimit: undefined,
  rlimits: [],
};

export interface ContainerSpecInput {
  containerId: string;
  sandbox: {
    id: string;
    /** Pid of the running pause process. */
    pid: number;
    /** Where the pod's network namespace is bound; undefined with the host's network. */
    netnsPath?: string | undefined;
    /** Where the user namespace that owns it is bound, if it has one of its own. */
    usernsPath?: string | undefined;
    config: PodSandboxConfig;
    files: SandboxFiles;
    /** Level of the pod's SELinux labels when it names none. */
    selinuxLevel: string;
  };
  config: ContainerConfig;
  image: {
    /** As the image calls itself; config.image.userSpecifiedImage wins in annotations. */
    name: string;
    config: ImageConfig;
  };
  /** Root filesystem, mounted: users are looked up in it, and it goes into the spec. Absolute. */
  rootfs: string;
  /** Directory of the container under which volumes are mounted with mapped owners, in pods with a user namespace. */
  idmapDir: string;
  /** Directory of the container under which volumes of the image get their directories. */
  volumesDir: string;
  /** Pid of the container that namespace_options.target_id names. */
  targetPid?: number | undefined;
  /** Host directories of the image mounts, by destination (see containerImageVolumes). */
  imageVolumePaths?: ReadonlyMap<string, string>;
  host: HostFacts;
  options: ContainerSpecOptions;
  /** Default: the real host. */
  lookups?: SpecLookups;
}

export interface ContainerSpec {
  spec: RuntimeSpec;
  /** For ContainerStatus.user. */
  user: ResolvedUser;
  /** Directories to make (mode 0755) before the container is created. */
  hostPathsToCreate: string[];
  /** Directories to make, and fill from the image, before the container is created. */
  volumes: AnonymousVolume[];
  imageVolumes: ImageVolume[];
  /** Mounts with mapped owners to make before the container is created. */
  idmapped: IdmappedMount[];
  /** Labels, and the host paths to be given the mount label; undefined without SELinux. */
  selinux: (SelinuxLabels & { relabel: string[] }) | undefined;
  /** What was asked for but clamped or left out, for the log. */
  warnings: string[];
}

/** How errors name the container. */
export function containerSubject({
  containerId,
  config,
}: Pick<ContainerSpecInput, 'containerId' | 'config'>): string {
  return `container "${config.metadata?.name ?? ''}" (${containerId})`;
}

/** The image mounts the caller must make on the host before it builds the spec. */
export function containerImageVolumes(
  input: Pick<ContainerSpecInput, 'containerId' | 'config'>,
): ImageVolume[] {
  return imageVolumes(containerSubject(input), input.config.mounts);
}

/**
 * Builds the spec. Reads through `lookups` and changes nothing on the host.
 * Throws CriError invalidArgument naming container and field for everything in the request that cannot be had.
 */
export async function buildContainerSpec(input: ContainerSpecInput): Promise<ContainerSpec> {
  const { sandbox, config, image, host, options, lookups = hostLookups } = input;
  const subject = containerSubject(input);
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const context = config.linux?.securityContext ?? null;
  const podContext = sandbox.config.linux?.securityContext ?? null;
  const podNamespaces = podContext?.namespaceOptions ?? null;
  const privileged = context?.privileged ?? false;
  if (privileged && podContext?.privileged !== true) {
    refuse(subject, 'security_context.privileged', 'its pod is not privileged');
  }
  refuseResourceClasses({
    subject,
    containerName: config.metadata?.name ?? '',
    annotations: config.annotations,
    podAnnotations: sandbox.config.annotations,
    ignoreBlockio: options.ignoreBlockioClasses,
    ignoreRdt: options.ignoreRdtClasses,
    warn,
  });
  checkSameUserNamespace(subject, podNamespaces?.usernsOptions, context?.namespaceOptions?.usernsOptions);
  const mappings = userMappings(subject, podNamespaces?.usernsOptions);
  // On cgroup v1, and for privileged containers, the whole tree has always been visible; tools rely on it.
  const cgroupNamespace = host.cgroup.version === 2 && !privileged;

  const capabilities = buildCapabilities({
    subject,
    asked: context?.capabilities ?? null,
    privileged,
    defaults: options.baseSpec?.process.capabilities?.bounding,
    available: host.capBounding,
    warn,
  });
  const [mounts, devices, seccomp, process] = await Promise.all([
    buildMounts({
      subject,
      asked: config.mounts,
      files: sandbox.files,
      hostIpc: podNamespaces?.ipc === 'NODE',
      readonlyRootfs: context?.readonlyRootfs ?? false,
      privileged,
      cgroupWritable: options.cgroupWritable,
      hostCgroup2: host.cgroup.version === 2 && !cgroupNamespace,
      // /sys shows the network namespace; only a user namespace that owns that may mount it anew.
      sysfsByBind: mappings !== undefined && podNamespaces?.network === 'NODE',
      mappings,
      features: options.features,
      image: image.config,
      ignoreImageVolumes: options.ignoreImageDefinedVolumes,
      idmapDir: input.idmapDir,
      volumesDir: input.volumesDir,
      imageVolumePaths: input.imageVolumePaths ?? new Map(),
      lookups,
    }),
    buildDevices({
      subject,
      asked: config.devices,
      securityContext: context,
      privilegedWithoutHostDevices: options.privilegedWithoutHostDevices,
      allDevicesAllowed: options.privilegedWithoutHostDevicesAllDevicesAllowed,
      ownedByRunAs: options.deviceOwnershipFromSecurityContext,
      lookups,
    }),
    buildSeccomp({
      subject,
      asked: context?.seccomp ?? null,
      legacyPath: context?.seccompProfilePath ?? '',
      unset: options.unsetSeccompProfile,
      privileged,
      capabilities: capabilities.bounding,
      host,
      lookups,
    }),
    buildProcess(input, { subject, warn, lookups, capabilities }),
  ]);
  const selinux =
    options.selinux && host.selinuxEnabled
      ? containerSelinuxLabels(subject, { pod: sandbox.config, config, podLevel: sandbox.selinuxLevel })
      : undefined;
  if (selinux !== undefined && !privileged) process.process.selinuxLabel = selinux.process;

  const spec: RuntimeSpec = {
    ociVersion,
    process: process.process,
    root: { path: input.rootfs, readonly: context?.readonlyRootfs ?? false },
    mounts: mounts.mounts,
    annotations: {
      ...passedThrough(sandbox.config.annotations, options.podAnnotations),
      ...passedThrough(config.annotations, options.containerAnnotations),
      ...containerAnnotations(sandbox.id, sandbox.config, {
        name: config.metadata?.name ?? '',
        image: config.image?.userSpecifiedImage || image.name,
      }),
    },
    linux: {
      namespaces: containerNamespaces({
        subject,
        container: context?.namespaceOptions ?? null,
        pod: podNamespaces,
        sandboxPid: sandbox.pid,
        netnsPath: sandbox.netnsPath,
        usernsPath: sandbox.usernsPath,
        targetPid: input.targetPid,
        mappings,
        cgroupNamespace,
      }),
      ...(mappings === undefined ? {} : { uidMappings: mappings.uids, gidMappings: mappings.gids }),
      ...(devices.devices.length === 0 ? {} : { devices: devices.devices }),
      cgroupsPath: buildCgroupsPath({
        subject,
        id: input.containerId,
        parent: sandbox.config.linux?.cgroupParent ?? '',
        systemd: options.systemdCgroup,
      }),
      resources: limits(input, { subject, warn }, { devices: devices.rules }),
      ...(mounts.rootfsPropagation === undefined ? {} : { rootfsPropagation: mounts.rootfsPropagation }),
      ...(seccomp === undefined ? {} : { seccomp }),
      // As the CRI gives them: empty lists mean that nothing is masked (procMount: Unmasked).
      maskedPaths: privileged ? [] : [...(context?.maskedPaths ?? [])],
      readonlyPaths: privileged ? [] : [...(context?.readonlyPaths ?? [])],
      ...(selinux === undefined ? {} : { mountLabel: selinux.mount }),
    },
  };
  return {
    spec: options.baseSpec === undefined ? spec : overBaseSpec(options.baseSpec, spec, { privileged }),
    user: process.user,
    hostPathsToCreate: mounts.hostPathsToCreate,
    volumes: mounts.volumes,
    imageVolumes: imageVolumes(subject, config.mounts),
    idmapped: mounts.idmapped,
    selinux: selinux === undefined ? undefined : { ...selinux, relabel: mounts.relabel },
    warnings,
  };
}

interface Building {
  subject: string;
  warn: (message: string) => void;
}

async function buildProcess(
  input: ContainerSpecInput,
  {
    subject,
    warn,
    lookups,
    capabilities,
  }: Building & { lookups: SpecLookups; capabilities: Process['capabilities'] },
): Promise<{ process: Process; user: ResolvedUser }> {
  const { sandbox, config, image, rootfs, host, options } = input;
  const context = config.linux?.securityContext ?? null;
  const args = commandLine(subject, config, image.config);
  const [user, apparmorProfile] = await Promise.all([
    resolveUser({
      subject,
      runAsUser: context?.runAsUser?.value,
      runAsGroup: context?.runAsGroup?.value,
      runAsUsername: context?.runAsUsername ?? '',
      imageUser: image.config.User ?? '',
      supplementalGroups: context?.supplementalGroups ?? [],
      policy: context?.supplementalGroupsPolicy ?? 'Merge',
      passwd: () => lookups.readInRoot(rootfs, 'etc/passwd'),
      group: () => lookups.readInRoot(rootfs, 'etc/group'),
    }),
    buildApparmor({
      subject,
      asked: context?.apparmor ?? null,
      legacyProfile: context?.apparmorProfile ?? '',
      privileged: context?.privileged ?? false,
      enabled: options.apparmor && host.apparmorEnabled,
      defaultProfile: options.apparmorDefaultProfile,
      lookups,
    }),
  ]);
  const resources = config.linux?.resources ?? null;
  const oomScoreAdj =
    resources === null
      ? undefined
      : buildOomScoreAdj({
          subject,
          wanted: exactInteger(resources.oomScoreAdj, subject, 'resources.oom_score_adj'),
          restrict: options.restrictOomScoreAdj,
          host,
          warn,
        });
  const rlimits = clampRlimits(subject, options.rlimits, host, warn);
  return {
    user,
    process: {
      terminal: config.tty,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.supplementalGroups },
      args,
      env: environment({
        subject,
        tty: config.tty,
        hostname: sandbox.config.hostname || host.hostname,
        image: image.config,
        envs: config.envs,
        warn,
      }),
      cwd: workingDir(subject, config.workingDir, {
        WorkingDir: image.config.WorkingDir || options.baseSpec?.process.cwd,
      }),
      capabilities,
      ...(rlimits.length === 0 ? {} : { rlimits }),
      noNewPrivileges: context?.noNewPrivs ?? false,
      ...(oomScoreAdj === undefined ? {} : { oomScoreAdj }),
      ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    },
  };
}

function limits(
  { config, host, options }: ContainerSpecInput,
  { subject, warn }: Building,
  base: Resources,
): Resources {
  const { disableHugetlbController, tolerateMissingHugetlbController, pidsLimit } = options;
  return applyResources(
    { ...base, ...(pidsLimit === undefined ? {} : { pids: { limit: pidsLimit } }) },
    config.linux?.resources ?? null,
    { subject, host, disableHugetlbController, tolerateMissingHugetlbController, warn },
  );
}

/** The container's own options, or else those of its pod; undefined without SELinux. */
export function containerSelinuxLabels(
  subject: string,
  { pod, config, podLevel }: { pod: PodSandboxConfig; config: ContainerConfig; podLevel: string },
): SelinuxLabels {
  const asked =
    config.linux?.securityContext?.selinuxOptions ?? pod.linux?.securityContext?.selinuxOptions ?? null;
  return buildSelinuxLabels({ subject, asked, podLevel });
}
