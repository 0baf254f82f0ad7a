// The parts of an OCI runtime configuration (config.json, runtime-spec 1.2) that this runtime writes.
// Names and nesting are the specification's; a field left out is absent, never null.

/** Written to `ociVersion`. Nothing newer than 1.0 is used unless the handler's features allow it. */
export const ociVersion = '1.0.2';

export interface RuntimeSpec {
  ociVersion: string;
  hostname?: string;
  process: Process;
  root: { path: string; readonly: boolean };
  mounts: Mount[];
  annotations: Record<string, string>;
  hooks?: Hooks;
  linux: Linux;
}

export type Hooks = { [Name in HookName]?: Hook[] };
export type HookName =
  | 'prestart'
  | 'createRuntime'
  | 'createContainer'
  | 'startContainer'
  | 'poststart'
  | 'poststop';

export interface Hook {
  path: string;
  args?: string[] | undefined;
  env?: string[] | undefined;
  /** Seconds. */
  timeout?: number | undefined;
}

export interface Process {
  terminal: boolean;
  user: User;
  args: string[];
  /** `NAME=value` */
  env: string[];
  cwd: string;
  capabilities: Capabilities;
  rlimits?: Rlimit[];
  noNewPrivileges: boolean;
  oomScoreAdj?: number;
  apparmorProfile?: string;
  selinuxLabel?: string;
}

export interface User {
  uid: number;
  gid: number;
  additionalGids: number[];
}

export interface Capabilities {
  bounding: string[];
  effective: string[];
  permitted: string[];
  inheritable: string[];
  ambient: string[];
}

export interface Rlimit {
  /** `RLIMIT_NOFILE`, ... */
  type: string;
  soft: number;
  hard: number;
}

export interface Mount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

export interface IdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

export type NamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup';

export interface Namespace {
  type: NamespaceType;
  /** Absent = a new one. */
  path?: string;
}

export interface Linux {
  namespaces: Namespace[];
  uidMappings?: IdMapping[];
  gidMappings?: IdMapping[];
  devices?: Device[];
  cgroupsPath: string;
  resources: Resources;
  rootfsPropagation?: 'rshared' | 'rslave';
  seccomp?: Seccomp;
  sysctl?: Record<string, string>;
  maskedPaths: string[];
  readonlyPaths: string[];
  mountLabel?: string;
}

export interface Device {
  type: 'c' | 'b' | 'p';
  path: string;
  major: number;
  minor: number;
  /** Permission bits. */
  fileMode: number;
  uid: number;
  gid: number;
}

export interface DeviceCgroupRule {
  allow: boolean;
  type?: 'a' | 'c' | 'b';
  major?: number;
  minor?: number;
  /** Letters of `rwm`. */
  access: string;
}

export interface Resources {
  devices?: DeviceCgroupRule[];
  memory?: {
    /** Bytes; -1 = unlimited. */
    limit?: number;
    /** Bytes of memory plus swap, on cgroup v1 and v2 alike; -1 = unlimited. */
    swap?: number;
  };
  cpu?: {
    shares?: number;
    /** Microseconds a period; -1 = unlimited. */
    quota?: number;
    /** Microseconds. */
    period?: number;
    cpus?: string;
    mems?: string;
  };
  pids?: { limit: number };
  hugepageLimits?: { pageSize: string; limit: number }[];
  /** Files of the container's cgroup v2 directory and what is written to them. */
  unified?: Record<string, string>;
}

export interface Seccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  flags?: string[];
  listenerPath?: string;
  listenerMetadata?: string;
  syscalls?: SeccompRule[];
}

export interface SeccompRule {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: SeccompArg[];
}

export interface SeccompArg {
  index: number;
  value: number;
  valueTwo?: number;
  op: string;
}
