// The kernel: its version, and the features a container cannot do without. Features are judged by what the
// kernel says of itself (/proc) and by its build configuration; no module is loaded to find out.
import { type Check, type Finding, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

/** Idmapped mounts of overlayfs, recursive read-only mounts and cgroup.kill are there from 5.19 on. */
const comfortable = [5, 19] as const;
/** The oldest kernel with pidfd_open(2). */
const oldest = [5, 3] as const;

export const kernelVersion: Check = {
  name: 'kernel version',
  run: host => {
    const version = /^(\d+)\.(\d+)/.exec(host.kernelRelease)?.slice(1).map(Number) ?? [0, 0];
    const found = `Linux ${host.kernelRelease}`;
    if (isBefore(version, oldest)) {
      return [
        fail(
          found,
          'processes are watched through pidfds, which came with Linux 5.3',
          'Boot Linux 5.3 or later.',
        ),
      ];
    }
    if (isBefore(version, comfortable)) {
      return [
        warn(
          found,
          'user namespaces of pods, recursive read-only mounts and cgroup.kill need Linux 5.19',
          'Boot Linux 5.19 or later if pods use them.',
        ),
      ];
    }
    return [ok(found, 'new enough for every feature that is used')];
  },
};

function isBefore(
  [major = 0, minor = 0]: readonly number[],
  [wantedMajor, wantedMinor]: readonly [number, number],
) {
  return major < wantedMajor || (major === wantedMajor && minor < wantedMinor);
}

interface Feature {
  readonly name: string;
  readonly why: string;
  readonly missing: 'fail' | 'warn';
  /** Module, for modprobe; also its directory under /sys/module. */
  readonly module?: string;
  /** Option of the kernel's build configuration. */
  readonly option: string;
  /** A sign in /proc or /sys that the feature is there, whatever the configuration says. */
  present?(host: HostView): boolean;
}

const namespaces = ['mnt', 'net', 'pid', 'ipc', 'uts'] as const;

const features: readonly Feature[] = [
  {
    name: 'overlayfs',
    why: 'root filesystems of containers are overlays of image layers',
    missing: 'fail',
    module: 'overlay',
    option: 'CONFIG_OVERLAY_FS',
    present: host => /\boverlay$/m.test(host.readText('/proc/filesystems') ?? ''),
  },
  {
    name: `namespaces (${namespaces.join(', ')})`,
    why: 'pods are made of namespaces',
    missing: 'fail',
    option: 'CONFIG_NAMESPACES',
    present: host => namespaces.every(kind => host.readLink(`/proc/self/ns/${kind}`) !== undefined),
  },
  {
    name: 'user namespaces',
    why: 'pods with hostUsers: false need them',
    missing: 'warn',
    option: 'CONFIG_USER_NS',
    present: host => host.readLink('/proc/self/ns/user') !== undefined,
  },
  {
    name: 'cgroup namespace',
    why: 'containers on cgroup v2 see their own cgroup as the root',
    missing: 'warn',
    option: 'CONFIG_CGROUPS',
    present: host => host.readLink('/proc/self/ns/cgroup') !== undefined,
  },
  {
    name: 'veth',
    why: 'most CNI plugins join pods to the host by a veth pair',
    missing: 'fail',
    module: 'veth',
    option: 'CONFIG_VETH',
  },
  {
    name: 'bridge',
    why: 'the bridge CNI plugin joins pods of a node by one',
    missing: 'warn',
    module: 'bridge',
    option: 'CONFIG_BRIDGE',
  },
  {
    name: 'seccomp filters',
    why: "the runtime's default seccomp profile and those of pods are filters",
    missing: 'warn',
    option: 'CONFIG_SECCOMP_FILTER',
    present: host => host.exists('/proc/sys/kernel/seccomp/actions_avail'),
  },
  {
    name: 'POSIX message queues',
    why: 'containers get a /dev/mqueue',
    missing: 'warn',
    option: 'CONFIG_POSIX_MQUEUE',
    present: host => /\bmqueue$/m.test(host.readText('/proc/filesystems') ?? ''),
  },
];

export const kernelFeatures: Check = {
  name: 'kernel features',
  run: host => {
    const kernelConfig = readKernelConfig(host);
    return features.map(feature => judge(feature, host, kernelConfig));
  },
};

function judge(feature: Feature, host: HostView, kernelConfig: string | undefined): Finding {
  const { name, why, module, option } = feature;
  if (feature.present?.(host) || (module !== undefined && host.exists(`/sys/module/${module}`))) {
    return ok(`${name}: present`, why);
  }
  const setting = new RegExp(`^${option}=([ym])$`, 'm').exec(kernelConfig ?? '')?.[1];
  if (setting === 'y') return ok(`${name}: built into the kernel (${option}=y)`, why);
  if (module !== undefined && isModuleInstalled(host, module)) {
    return ok(`${name}: a module that the kernel loads when it is needed (${module})`, why);
  }
  const report = feature.missing === 'fail' ? fail : warn;
  if (module !== undefined && setting === 'm') {
    return report(
      `${name}: ${option}=m, but the module ${module} is not in /lib/modules/${host.kernelRelease}`,
      why,
      `Install the modules of this kernel (Debian: apt install linux-image-${host.kernelRelease}), then: modprobe ${module}`,
    );
  }
  if (kernelConfig === undefined) {
    return info(
      `${name}: not seen; the configuration of the kernel cannot be read`,
      why,
      `modprobe ${module ?? name}`,
    );
  }
  return report(`${name}: not in this kernel (${option} is not set)`, why, `Boot a kernel with ${option}.`);
}

function readKernelConfig(host: HostView): string | undefined {
  const release = host.kernelRelease;
  const places = ['/proc/config.gz', `/boot/config-${release}`, `/lib/modules/${release}/config`];
  return places.map(place => host.readText(place)).find(text => text !== undefined);
}

function isModuleInstalled(host: HostView, module: string): boolean {
  const folder = `/lib/modules/${host.kernelRelease}`;
  const file = new RegExp(`/${module}\\.ko(\\.\\w+)?(:|$)`, 'm');
  return ['modules.dep', 'modules.builtin'].some(list => file.test(host.readText(`${folder}/${list}`) ?? ''));
}
