// AppArmor and SELinux: which of the two the kernel enforces, and whether the configuration goes with it.
import type { Config } from '../../config/index.ts';
import { type Check, type Finding, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

export const securityModules: Check = {
  name: 'security modules',
  run: (host, config) => [judgeAppArmor(host, config), judgeSelinux(host, config)],
};

function judgeAppArmor(host: HostView, config: Config): Finding {
  const why = 'pods may ask for an AppArmor profile; where there is none, those that do are refused';
  if (host.readText('/sys/module/apparmor/parameters/enabled')?.trim() !== 'Y') {
    return info('AppArmor: not in use by this kernel', why);
  }
  if (!config.security.apparmor) return info('AppArmor: in use, but disable_apparmor = true', why);
  if (host.findExecutable('apparmor_parser') === undefined) {
    return warn(
      'AppArmor: in use, but apparmor_parser is not there',
      'it loads the default profile of containers',
      'apt install apparmor',
    );
  }
  return ok('AppArmor: in use', why);
}

function judgeSelinux(host: HostView, config: Config): Finding {
  const why = 'SELinux keeps containers apart by their labels';
  const enforce = host.readText('/sys/fs/selinux/enforce')?.trim();
  if (enforce === undefined) {
    return config.security.selinux
      ? warn(
          'SELinux: not in use by this kernel, but enable_selinux = true',
          why,
          'Set enable_selinux = false, or boot with SELinux.',
        )
      : info('SELinux: not in use by this kernel', why);
  }
  const mode = enforce === '1' ? 'enforcing' : 'permissive';
  if (config.security.selinux) return ok(`SELinux: ${mode}`, why);
  return warn(
    `SELinux: ${mode}, but enable_selinux = false`,
    `${why}; without them containers run with the label of the daemon`,
    'Set enable_selinux = true in [plugins."io.containerd.cri.v1.runtime"].',
  );
}
