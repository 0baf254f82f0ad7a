// Control groups: which layout, which controllers, and whether the configured driver fits the init system.
import type { Config } from '../../config/index.ts';
import { type Check, type Finding, fail, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

export interface CgroupLayout {
  readonly kind: 'v2' | 'v1' | 'hybrid' | 'none';
  readonly controllers: readonly string[];
}

const needed = ['cpu', 'cpuset', 'memory', 'pids'];
const neededOnV1 = [...needed, 'cpuacct', 'devices'];

/** v2 when /sys/fs/cgroup itself is cgroup2; hybrid when a cgroup2 hierarchy stands beside v1 ones. */
export function cgroupLayout(host: HostView): CgroupLayout {
  const mounts = (host.readText('/proc/self/mounts') ?? '')
    .split('\n')
    .map(line => line.split(' '))
    .map(([, target = '', type = '', options = '']) => ({ target, type, options: options.split(',') }));
  if (mounts.some(({ target, type }) => type === 'cgroup2' && target === '/sys/fs/cgroup')) {
    return { kind: 'v2', controllers: words(host.readText('/sys/fs/cgroup/cgroup.controllers')) };
  }
  const v1 = mounts.filter(({ type }) => type === 'cgroup');
  if (v1.length === 0) return { kind: 'none', controllers: [] };
  const known = enabledControllers(host);
  const controllers = known.filter(controller => v1.some(({ options }) => options.includes(controller)));
  return { kind: mounts.some(({ type }) => type === 'cgroup2') ? 'hybrid' : 'v1', controllers };
}

function enabledControllers(host: HostView): string[] {
  return (host.readText('/proc/cgroups') ?? '')
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => line.split(/\s+/))
    .filter(([, , , enabled]) => enabled === '1')
    .map(([name = '']) => name);
}

function words(text: string | undefined): string[] {
  return (text ?? '').split(/\s+/).filter(word => word !== '');
}

export const cgroupLayoutCheck: Check = {
  name: 'cgroup layout',
  run: host => {
    const layout = cgroupLayout(host);
    if (layout.kind === 'none') {
      return [
        fail(
          'no cgroup hierarchy is mounted',
          'limits, statistics and the ending of containers rest on cgroups',
          'mount -t cgroup2 none /sys/fs/cgroup',
        ),
      ];
    }
    return [judgeLayout(layout.kind), judgeControllers(layout)];
  },
};

function judgeLayout(kind: 'v1' | 'v2' | 'hybrid'): Finding {
  if (kind === 'v2') return ok('cgroup v2', 'the layout Kubernetes is developed for');
  return warn(
    kind === 'v1' ? 'cgroup v1' : 'cgroup v1, with a v2 hierarchy beside it (hybrid)',
    'Kubernetes gives up cgroup v1: kubelet 1.35 and later start on it only with failCgroupV1: false',
    'Boot with the kernel argument systemd.unified_cgroup_hierarchy=1, or on nodes without systemd mount cgroup2 on /sys/fs/cgroup.',
  );
}

function judgeControllers({ kind, controllers }: CgroupLayout): Finding {
  const missing = (kind === 'v2' ? needed : neededOnV1).filter(name => !controllers.includes(name));
  const found = `controllers: ${controllers.join(', ') || 'none'}`;
  const why = "a pod's resource limits bind only where the controller is";
  if (missing.length === 0) return ok(found, why);
  return fail(
    `${found}; missing: ${missing.join(', ')}`,
    why,
    missing.includes('memory')
      ? 'Boot with the kernel arguments cgroup_enable=memory swapaccount=1.'
      : 'Boot a kernel with these controllers, and without cgroup_disable= for them.',
  );
}

export const cgroupDriver: Check = {
  name: 'cgroup driver',
  run: (host, config) => {
    const handlers = [...config.runtimes.handlers.values()];
    const findings: Finding[] = [];
    if (new Set(handlers.map(({ systemdCgroup }) => systemdCgroup)).size > 1) {
      findings.push(
        warn(
          `SystemdCgroup differs between runtimes: ${handlers.map(({ name, systemdCgroup }) => `${name} ${systemdCgroup}`).join(', ')}`,
          'kubelet uses one driver for all pods; those of the other runtimes get cgroups it does not find',
          'Give every runtime in the configuration the same options.SystemdCgroup.',
        ),
      );
    }
    return [...findings, judgeDriver(host, config), ...writableCgroups(host, config)];
  },
};

function judgeDriver(host: HostView, config: Config): Finding {
  const hasSystemd = host.exists('/run/systemd/system');
  const systemd = config.runtimes.handlers.get(config.runtimes.defaultName)?.systemdCgroup === true;
  const why = 'on a node with systemd one program alone, systemd, should write the cgroup tree';
  if (systemd && !hasSystemd) {
    return fail(
      'SystemdCgroup = true, but systemd does not run this node',
      'runc asks systemd for each cgroup and fails without it',
      'Set options.SystemdCgroup = false, and cgroupDriver: cgroupfs in the kubelet configuration.',
    );
  }
  if (!systemd && hasSystemd) {
    return warn(
      'SystemdCgroup = false, and systemd runs this node',
      `${why}; kubeadm also sets kubelet to the systemd driver, and the two must agree`,
      'Set options.SystemdCgroup = true for each runtime, and cgroupDriver: systemd in the kubelet configuration.',
    );
  }
  return ok(`driver ${systemd ? 'systemd' : 'cgroupfs'}, ${hasSystemd ? 'with' : 'without'} systemd`, why);
}

function writableCgroups(host: HostView, config: Config): Finding[] {
  const asking = [...config.runtimes.handlers.values()].filter(({ cgroupWritable }) => cgroupWritable);
  if (asking.length === 0 || cgroupLayout(host).kind === 'v2') return [];
  return [
    fail(
      `cgroup_writable = true for ${asking.map(({ name }) => name).join(', ')}, but this node is not on cgroup v2`,
      'on cgroup v1 a writable hierarchy would let a container out of its limits',
      'Remove cgroup_writable, or boot with cgroup v2.',
    ),
  ];
}
