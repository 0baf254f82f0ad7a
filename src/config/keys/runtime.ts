// [plugins."io.containerd.cri.v1.runtime"]: pods, containers, their runtimes and their network.
import { z } from 'zod';
import { honoured, section, unused } from '../notes.ts';
import { isTable } from '../tree.ts';
import { duration, executable, flag, listOf, oneOf, path, text, wholeNumber } from '../values.ts';

const shimOnly = 'there is no shim: conmon watches each container and calls the runtime';

/** `runtimes.NAME.options`; keys are spelt as containerd's runc options spell them. */
const runtimeOptions = section({
  BinaryName: honoured(
    executable().default(''),
    'The OCI runtime to run: a path or a name on PATH. "" = by runtime_type: runc, or runsc.',
  ),
  Root: honoured(path().default(''), 'The runtime\'s own state directory. "" = a directory under `state`.'),
  SystemdCgroup: honoured(
    flag().default(false),
    "Let systemd make the cgroups. Must agree with kubelet's cgroupDriver.",
  ),
  CriuPath: honoured(
    path().default(''),
    'The executable `criu`, or its directory, for checkpoints. "" = the one on PATH.',
  ),
  NoPivotRoot: unused('runtimes are always asked to pivot_root', { harmless: [false], level: 'warn' }),
  NoNewKeyring: unused('each container gets its own session keyring', { harmless: [false], level: 'warn' }),
  ShimCgroup: unused(shimOnly, { harmless: [''] }),
  IoUid: unused('log pipes belong to conmon', { harmless: [0] }),
  IoGid: unused('log pipes belong to conmon', { harmless: [0] }),
  CriuImagePath: unused("criu's images are kept with the container", { harmless: [''] }),
  CriuWorkPath: unused("criu's logs are kept with the container", { harmless: [''] }),
  TaskApiAddress: unused(shimOnly, { harmless: [''] }),
  TaskApiVersion: unused(shimOnly, { harmless: [0] }),
  TypeUrl: unused(shimOnly, { harmless: [''] }),
  ConfigPath: unused('for flags of the runtime, name a wrapper script in BinaryName', {
    harmless: [''],
    level: 'warn',
  }),
  ConfigBody: unused('for flags of the runtime, name a wrapper script in BinaryName', {
    harmless: [''],
    level: 'warn',
  }),
});

const runtimeHandler = section({
  runtime_type: honoured(
    text().default('io.containerd.runc.v2'),
    'io.containerd.runc.v2 (runc, crun and others with its command line) or io.containerd.runsc.v1 (gVisor).',
  ),
  runtime_path: honoured(
    path().default(''),
    'Path of the OCI runtime; options.BinaryName goes before it. Paths of containerd shims are ignored.',
  ),
  pod_annotations: honoured(
    listOf(text(), 'patterns of annotation keys').default([]),
    'Pod annotations passed to the runtime, as patterns such as "runc.com.*".',
  ),
  container_annotations: honoured(
    listOf(text(), 'patterns of annotation keys').default([]),
    'Container annotations passed to the runtime, as patterns.',
  ),
  privileged_without_host_devices: honoured(
    flag().default(false),
    "Do not give privileged containers the host's devices.",
  ),
  privileged_without_host_devices_all_devices_allowed: honoured(
    flag().default(false),
    'With privileged_without_host_devices: still allow access to every device.',
  ),
  cgroup_writable: honoured(
    flag().default(false),
    'Mount /sys/fs/cgroup writable in unprivileged containers (cgroup v2 only).',
  ),
  base_runtime_spec: honoured(path().default(''), 'OCI spec, a JSON file, that container specs start from.'),
  cni_conf_dir: honoured(
    path().default(''),
    'CNI configuration of pods of this handler. "" = that of [cni] below.',
  ),
  cni_max_conf_num: honoured(wholeNumber(0).default(0), 'How many files of cni_conf_dir are used; 0 = all.'),
  snapshotter: honoured(
    z
      .enum(['', 'overlayfs'], { error: '"overlayfs", or "" for the snapshotter of the images section' })
      .default(''),
    'Root filesystems of this handler. "" = as in the images section.',
  ),
  options: runtimeOptions,
  sandboxer: unused('every pod has a pause container', { harmless: ['podsandbox'], level: 'warn' }),
  sandbox_mode: unused('every pod has a pause container', { harmless: ['podsandbox'], level: 'warn' }),
  disable_pause_image_pull: unused('without a sandbox image, no image is pulled', { harmless: [false] }),
  io_type: unused('conmon owns the streams', { harmless: ['', 'fifo'], level: 'warn' }),
  runtime_engine: unused('of containerd 1.2; use options.BinaryName', { harmless: [''], level: 'warn' }),
  runtime_root: unused('of containerd 1.2; use options.Root', { harmless: [''], level: 'warn' }),
});

const containerd = section({
  default_runtime_name: honoured(
    text('the name of a table under `runtimes`').default('runc'),
    'The runtime of pods that name none.',
  ),
  // the handler `runc` is there even when the file speaks only of others, as in containerd
  runtimes: z
    .preprocess(
      value => (isTable(value) ? { runc: {}, ...value } : value),
      z.record(z.string(), runtimeHandler, { error: 'a table of runtimes' }),
    )
    .prefault({}),
  ignore_blockio_not_enabled_errors: honoured(
    flag().default(false),
    'Run containers without the block I/O class that they ask for, instead of refusing them.',
  ),
  ignore_rdt_not_enabled_errors: honoured(
    flag().default(false),
    'Run containers without the RDT class that they ask for, instead of refusing them.',
  ),
  no_pivot: unused('of containerd 1; runtimes are always asked to pivot_root', {
    harmless: [false],
    level: 'warn',
  }),
  default_runtime: unused('removed in containerd 1.7; use default_runtime_name and runtimes', {
    level: 'warn',
  }),
  untrusted_workload_runtime: unused('removed in containerd 1.7; use a RuntimeClass', { level: 'warn' }),
});

const cni = section({
  bin_dirs: honoured(
    listOf(path(), 'absolute paths').default(['/opt/cni/bin', '/usr/lib/cni']),
    'Where CNI plugins are looked for, in order.',
  ),
  conf_dir: honoured(path().default('/etc/cni/net.d'), 'Where CNI configuration is read from.'),
  max_conf_num: honoured(
    wholeNumber(0).default(0),
    'How many files of conf_dir are used, in lexicographic order; 0 = all. containerd uses 1 by default.',
  ),
  conf_template: honoured(
    path().default(''),
    'Go template written into conf_dir when kubelet tells the pod CIDR ({{.PodCIDR}}, {{.PodCIDRRanges}}, {{.Routes}}).',
  ),
  ip_pref: honoured(
    oneOf('ipv4', 'ipv6', 'cni').default('ipv4'),
    'Which address is the pod\'s main one; "cni" = the first that the plugins return.',
  ),
  use_internal_loopback: honoured(
    flag().default(false),
    'Bring lo up without a plugin even where conf_dir configures the loopback plugin.',
  ),
  setup_serially: unused('networks are always attached one after the other, in the order of their files', {
    harmless: [true, false],
  }),
});

export const runtimeSection = section({
  enable_selinux: honoured(flag().default(false), 'Apply SELinux labels.'),
  selinux_category_range: honoured(
    wholeNumber(0, 1024)
      .refine(value => value !== 1, { error: '0, or 2 to 1024: each pod gets two' })
      .default(1024),
    'Upper bound of the SELinux categories given to pods; 0 = 1024.',
  ),
  disable_apparmor: honoured(flag().default(false), 'Apply no AppArmor profile.'),
  restrict_oom_score_adj: honoured(
    flag().default(false),
    "Raise oom_score_adj values that are lower than the daemon's own to the daemon's own.",
  ),
  unset_seccomp_profile: honoured(
    text()
      .refine(value => /^(?:|unconfined|runtime\/default|docker\/default|localhost\/.+)$/.test(value), {
        error: '"", "unconfined", "runtime/default", "docker/default" or "localhost/PATH"',
      })
      .default(''),
    'Seccomp profile of containers that ask for none. "" = unconfined.',
  ),
  tolerate_missing_hugetlb_controller: honoured(
    flag().default(true),
    'Drop huge page limits where there is no hugetlb controller, instead of refusing the container.',
  ),
  disable_hugetlb_controller: honoured(flag().default(true), 'Never use the hugetlb controller.'),
  device_ownership_from_security_context: honoured(
    flag().default(false),
    'Device nodes in containers belong to runAsUser and runAsGroup.',
  ),
  ignore_image_defined_volumes: honoured(flag().default(false), 'Do not mount the VOLUMEs of images.'),
  netns_mounts_under_state_dir: honoured(
    flag().default(false),
    'Bind network namespaces under `state`/netns instead of /var/run/netns.',
  ),
  enable_unprivileged_ports: honoured(
    flag().default(true),
    'Allow every user of a pod ports below 1024 (not with the host network).',
  ),
  enable_unprivileged_icmp: honoured(
    flag().default(true),
    'Allow every user of a pod to ping (not with the host network or user namespaces).',
  ),
  enable_criu: honoured(flag().default(true), 'Checkpoint and restore containers, where criu is installed.'),
  enable_cdi: honoured(flag().default(true), 'Inject devices of the Container Device Interface.'),
  cdi_spec_dirs: honoured(
    listOf(path(), 'absolute paths').default(['/etc/cdi', '/var/run/cdi']),
    'Where CDI specs are read from.',
  ),
  drain_exec_sync_io_timeout: honoured(
    duration({ allowZero: true }).default('0s'),
    'How long ExecSync waits for its output to close after the command ended; "0s" = for ever.',
  ),
  ignore_deprecation_warnings: honoured(
    listOf(
      text(),
      'deprecation identifiers, such as "io.containerd.deprecation/cri-registry-mirrors"',
    ).default([]),
    'Deprecations about which nothing is said.',
  ),
  stats_collect_period: honoured(
    duration({ allowZero: false }).default('1s'),
    'Period of CPU samples for usageNanoCores; ten of them when nobody has asked for statistics for a minute.',
  ),
  stats_retention_period: honoured(
    duration({ allowZero: false }).default('2m'),
    'How long CPU samples are kept.',
  ),
  containerd,
  cni,
  max_container_log_line_size: unused(
    'conmon writes the logs, and splits longer lines into partial ones, marked P, at its own 8 KiB',
    { harmless: [16384] },
  ),
  disable_proc_mount: unused('for Kubernetes 1.11 and older', { harmless: [false] }),
  disable_cgroup: unused('containers always get cgroups', { harmless: [false], level: 'warn' }),
  systemd_cgroup: unused('of containerd 1; use runtimes.NAME.options.SystemdCgroup', {
    harmless: [false],
    level: 'warn',
  }),
});
