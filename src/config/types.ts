// The effective configuration as the rest of the program sees it: checked, complete, immutable.
// It is made once, by loadConfig, and handed down; a missing value is `undefined` only where absence
// means something. Paths are absolute, durations are milliseconds (`...Ms`), sizes are bytes.

export interface Config {
  /** Directory for what must survive a reboot: records, image content, layers. */
  readonly root: string;
  /** Directory for what a reboot may lose: bundles, sockets, mounts. */
  readonly state: string;
  readonly server: ServerConfig;
  readonly runtimes: RuntimesConfig;
  readonly sandbox: SandboxConfig;
  readonly cni: CniConfig;
  readonly images: ImagesConfig;
  readonly streaming: StreamingConfig;
  readonly security: SecurityConfig;
  readonly cgroups: CgroupsConfig;
  /** Containers may be checkpointed and restored. */
  readonly criuEnabled: boolean;
  readonly cdi: CdiConfig;
  readonly monitor: MonitorConfig;
  readonly limits: LimitsConfig;
  readonly stats: StatsConfig;
  readonly log: LogConfig;
  readonly metrics: MetricsConfig;
  readonly tracing: TracingConfig;
}

/** The CRI socket. */
export interface ServerConfig {
  readonly socketPath: string;
  readonly uid: number;
  readonly gid: number;
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
}

export interface RuntimesConfig {
  /** Handler for pods that name none; always a key of `handlers`. */
  readonly defaultName: string;
  /** By RuntimeClass handler name, as RunPodSandbox's runtime_handler gives it. */
  readonly handlers: ReadonlyMap<string, RuntimeHandlerConfig>;
}

/** The command-line dialect of an OCI runtime executable; crun speaks runc's. */
export type RuntimeKind = 'runc' | 'runsc';

export interface RuntimeHandlerConfig {
  readonly name: string;
  readonly kind: RuntimeKind;
  /** Absolute path, or a name to be found on PATH. */
  readonly binary: string;
  /** The runtime's own state directory (`--root`). */
  readonly root: string;
  /** Cgroup paths are systemd slices, and the runtime asks systemd for them. */
  readonly systemdCgroup: boolean;
  /** Privileged containers do not get the host's devices. */
  readonly privilegedWithoutHostDevices: boolean;
  /** With the above: the device cgroup still allows all devices. */
  readonly privilegedWithoutHostDevicesAllDevicesAllowed: boolean;
  /** Patterns (Go path.Match) of pod annotations that go into the OCI spec of the pod and its containers. */
  readonly podAnnotations: readonly string[];
  /** Patterns of container annotations that go into the OCI spec of the container. */
  readonly containerAnnotations: readonly string[];
  /** /sys/fs/cgroup is writable in unprivileged containers (cgroup v2 only). */
  readonly cgroupWritable: boolean;
  /** OCI spec (JSON file) from which container specs start. */
  readonly baseRuntimeSpec: string | undefined;
  readonly snapshotter: Snapshotter;
  /** criu's executable or its directory; undefined = on PATH. */
  readonly criuPath: string | undefined;
  /** Pods of this handler take their CNI configuration from here instead of `cni.confDir`. */
  readonly cniConfDir: string | undefined;
  /** How many files of `cniConfDir` are used; 0 = all. */
  readonly cniMaxConfNum: number;
}

export type Snapshotter = 'overlayfs';

export interface SandboxConfig {
  /** Image of the pause container; undefined = the built-in pause program, no image at all. */
  readonly image: string | undefined;
  /** The built-in pause executable; undefined = found where packages put it. */
  readonly pausePath: string | undefined;
  /** Where network namespaces are bound. */
  readonly netnsDir: string;
  /** Set net.ipv4.ip_unprivileged_port_start=0 in pods with their own network. */
  readonly unprivilegedPorts: boolean;
  /** Set net.ipv4.ping_group_range="0 2147483647" in pods with their own network and no user namespace. */
  readonly unprivilegedIcmp: boolean;
}

export interface CniConfig {
  readonly confDir: string;
  readonly binDirs: readonly string[];
  /** How many files of `confDir` are used, in lexicographic order; 0 = all. */
  readonly maxConfNum: number;
  /** Go template of a network list, written into `confDir` when kubelet tells the pod CIDR. */
  readonly confTemplate: string | undefined;
  /** Which of the pod's addresses is its main one; `cni` = the first that the plugins returned. */
  readonly ipPreference: 'ipv4' | 'ipv6' | 'cni';
  /** lo is brought up by the runtime itself even when a loopback plugin is configured. */
  readonly useInternalLoopback: boolean;
  /** Bound of one run of one plugin. */
  readonly pluginTimeoutMs: number;
}

export interface ImagesConfig {
  readonly snapshotter: Snapshotter;
  /** Image references by the name of their use; never garbage-collected by kubelet. Includes `sandbox`. */
  readonly pinned: ReadonlyMap<string, string>;
  readonly registry: RegistryConfig;
  /** Layers of one image fetched at the same time. */
  readonly maxConcurrentDownloads: number;
  /** A pull that receives no byte for so long is given up; undefined = never. */
  readonly pullProgressTimeoutMs: number | undefined;
  /** Programs that must accept each image. */
  readonly verifiers: VerifiersConfig;
}

export interface VerifiersConfig {
  readonly directory: string;
  /** How many of those in `directory` are asked, the first by name; undefined = all. */
  readonly limit: number | undefined;
  /** For each. */
  readonly timeoutMs: number;
}

export interface RegistryConfig {
  /** Directories with `HOST/hosts.toml`, first match wins. */
  readonly configPaths: readonly string[];
  /** HTTP headers added to each request. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
}

/** The HTTP server of exec, attach and port-forward. */
export interface StreamingConfig {
  /** IP address to listen on; undefined = the node's own address. */
  readonly address: string | undefined;
  /** 0 = any free port. */
  readonly port: number;
  /** A stream on which nothing moves for so long is closed; undefined = never. */
  readonly idleTimeoutMs: number | undefined;
  readonly tls: StreamingTls;
}

export type StreamingTls =
  | { readonly mode: 'off' }
  | { readonly mode: 'self-signed' }
  | { readonly mode: 'files'; readonly certFile: string; readonly keyFile: string };

export interface SecurityConfig {
  /** Raised scores are passed on; scores below the daemon's own are clamped to it. */
  readonly restrictOomScoreAdj: boolean;
  readonly selinux: boolean;
  /** Upper bound of the MCS categories drawn for pods. */
  readonly selinuxCategoryRange: number;
  readonly apparmor: boolean;
  /** The profile of containers that ask for none. */
  readonly unsetSeccompProfile: SeccompProfileChoice;
  /** Device nodes in containers belong to runAsUser and runAsGroup. */
  readonly deviceOwnershipFromSecurityContext: boolean;
  /** VOLUME lines of images are not made into mounts. */
  readonly ignoreImageDefinedVolumes: boolean;
}

export type SeccompProfileChoice =
  | { readonly kind: 'unconfined' }
  | { readonly kind: 'runtime-default' }
  | { readonly kind: 'localhost'; readonly path: string };

export interface CgroupsConfig {
  /** Containers that ask for a block I/O class run without it. */
  readonly ignoreBlockioClasses: boolean;
  /** Containers that ask for an RDT class run without it. */
  readonly ignoreRdtClasses: boolean;
  /** Huge page limits are left out of specs even where the controller exists. */
  readonly disableHugetlbController: boolean;
  /** Huge page limits are dropped, not refused, where the controller is missing. */
  readonly tolerateMissingHugetlbController: boolean;
}

/** Container Device Interface. */
export interface CdiConfig {
  readonly enabled: boolean;
  readonly specDirs: readonly string[];
}

/** conmon, which watches each container. */
export interface MonitorConfig {
  /** Absolute path, or a name to be found on PATH. */
  readonly binary: string;
}

export interface LimitsConfig {
  /** Bound of one run of an OCI runtime's command (create, start, delete, ...). */
  readonly runtimeTimeoutMs: number;
  /** Bound of doing one step of a lifecycle operation. */
  readonly stepTimeoutMs: number;
  /** Bound of undoing one step; it does not depend on the caller's deadline. */
  readonly undoTimeoutMs: number;
  /** After an ExecSync command ends: how long its output may stay open in other processes; undefined = for ever. */
  readonly drainExecSyncIoTimeoutMs: number | undefined;
}

export interface StatsConfig {
  /** Period of CPU samples, from which usageNanoCores is computed. */
  readonly collectPeriodMs: number;
  /** How long CPU samples are kept. */
  readonly retentionPeriodMs: number;
  /** Period of measuring the disk usage of layers. */
  readonly layerPeriodMs: number;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';

export interface LogConfig {
  readonly level: LogLevel;
  readonly format: 'json' | 'text';
}

export interface MetricsConfig {
  /** `host:port` of the Prometheus endpoint; undefined = none. */
  readonly address: string | undefined;
}

export interface TracingConfig {
  /** OTLP endpoint URL; undefined = spans are not exported. */
  readonly endpoint: string | undefined;
  readonly protocol: 'http/protobuf' | 'grpc';
  /** No TLS towards the endpoint. */
  readonly insecure: boolean;
  /** 0 to 1. */
  readonly samplingRatio: number;
  readonly serviceName: string;
}
