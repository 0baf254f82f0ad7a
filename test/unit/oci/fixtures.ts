// What the spec tests start from: CRI messages as the decoder hands them out, a host, and lookups that answer
// from tables.
import type {
  ContainerConfig,
  LinuxContainerResources,
  LinuxContainerSecurityContext,
  LinuxSandboxSecurityContext,
  Mount,
  NamespaceOption,
  PodSandboxConfig,
} from '../../../src/cri-api/types.ts';
import { capabilityNames } from '../../../src/host/capabilities.ts';
import type { HostFacts } from '../../../src/oci/spec/host-facts.ts';
import type { SpecLookups } from '../../../src/oci/spec/lookups.ts';

export const host: HostFacts = {
  arch: 'x64',
  kernel: { major: 6, minor: 12 },
  hostname: 'node-1',
  cgroup: { version: 2, swap: true, hugetlb: true, cpu: true },
  capBounding: capabilityNames,
  hasCapSysResource: true,
  oomScoreAdj: 0,
  rlimits: new Map([['RLIMIT_NOFILE', { soft: 1024, hard: 4096 }]]),
  apparmorEnabled: false,
  selinuxEnabled: false,
  seccompEnabled: true,
  passedOn: [],
  inUserNamespace: false,
};

/** A host on which every path exists under its own name and nothing else is known. */
export function lookups(over: Partial<SpecLookups> = {}): SpecLookups {
  return {
    realPath: async hostPath => hostPath,
    readText: async () => undefined,
    readInRoot: async () => undefined,
    devices: async () => undefined,
    mounts: async () => [],
    ...over,
  };
}

export function namespaceOptions(over: Partial<NamespaceOption> = {}): NamespaceOption {
  return { network: 'POD', pid: 'CONTAINER', ipc: 'POD', targetId: '', usernsOptions: null, ...over };
}

export function sandboxConfig(
  over: Partial<PodSandboxConfig> & { context?: Partial<LinuxSandboxSecurityContext> } = {},
): PodSandboxConfig {
  const { context, ...rest } = over;
  return {
    metadata: { name: 'web', uid: 'uid-1', namespace: 'shop', attempt: 0 },
    hostname: 'web-0',
    logDirectory: '/var/log/pods/web',
    dnsConfig: null,
    portMappings: [],
    labels: {},
    annotations: {},
    windows: null,
    ...rest,
    linux: {
      cgroupParent: '/kubepods/pod1',
      sysctls: {},
      overhead: null,
      resources: null,
      ...rest.linux,
      securityContext: {
        namespaceOptions: namespaceOptions(),
        selinuxOptions: null,
        runAsUser: null,
        runAsGroup: null,
        readonlyRootfs: false,
        supplementalGroups: [],
        supplementalGroupsPolicy: 'Merge',
        privileged: false,
        seccomp: null,
        apparmor: null,
        seccompProfilePath: '',
        ...context,
      },
    },
  };
}

export function securityContext(
  over: Partial<LinuxContainerSecurityContext> = {},
): LinuxContainerSecurityContext {
  return {
    capabilities: null,
    privileged: false,
    namespaceOptions: namespaceOptions(),
    selinuxOptions: null,
    runAsUser: null,
    runAsGroup: null,
    runAsUsername: '',
    readonlyRootfs: false,
    supplementalGroups: [],
    supplementalGroupsPolicy: 'Merge',
    noNewPrivs: false,
    maskedPaths: [],
    readonlyPaths: [],
    seccomp: null,
    apparmor: null,
    apparmorProfile: '',
    seccompProfilePath: '',
    ...over,
  };
}

export function resources(over: Partial<LinuxContainerResources> = {}): LinuxContainerResources {
  return {
    cpuPeriod: '0',
    cpuQuota: '0',
    cpuShares: '0',
    memoryLimitInBytes: '0',
    oomScoreAdj: '0',
    cpusetCpus: '',
    cpusetMems: '',
    hugepageLimits: [],
    unified: {},
    memorySwapLimitInBytes: '0',
    ...over,
  };
}

export function mount(over: Partial<Mount> = {}): Mount {
  return {
    containerPath: '/data',
    hostPath: '/srv/data',
    readonly: false,
    selinuxRelabel: false,
    propagation: 'PROPAGATION_PRIVATE',
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    image: null,
    imageSubPath: '',
    ...over,
  };
}

export function containerConfig(
  over: Partial<ContainerConfig> & {
    context?: Partial<LinuxContainerSecurityContext>;
    limits?: Partial<LinuxContainerResources>;
  } = {},
): ContainerConfig {
  const { context, limits, ...rest } = over;
  return {
    metadata: { name: 'server', attempt: 0 },
    image: { image: 'sha256:1', annotations: {}, userSpecifiedImage: '', runtimeHandler: '', imageRef: '' },
    command: ['/bin/server'],
    args: [],
    workingDir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: '',
    stdin: false,
    stdinOnce: false,
    tty: false,
    windows: null,
    CDIDevices: [],
    stopSignal: 'RUNTIME_DEFAULT',
    ...rest,
    linux: {
      resources: limits === undefined ? null : resources(limits),
      securityContext: securityContext(context),
    },
  };
}
