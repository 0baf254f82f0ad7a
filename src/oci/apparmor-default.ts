// The AppArmor profile of containers that name none or ask for RuntimeDefault: its text, and how it gets into the kernel.
// Most of what a container may not do, capabilities, namespaces, seccomp and masked paths forbid already; this is for
// what they leave: writing to the parts of /proc and /sys that belong to the node, mounting, and tracing others.
import { access, constants, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CriError, codeOf } from '../errors.ts';
import { findExecutable } from '../host/executables.ts';
import { run } from '../host/process.ts';

export const defaultProfileName = 'cri-ts-default';
const loadMs = 30_000;

export interface ApparmorHost {
  /** apparmor_parser. */
  parser: string;
  /** File in which the kernel lists what is loaded. */
  loaded: string;
  /** Directory of the tunables and abstractions that profiles include. */
  configDir: string;
}

export const thisApparmorHost = (): ApparmorHost => ({
  parser: findExecutable('apparmor_parser'),
  loaded: '/sys/kernel/security/apparmor/profiles',
  configDir: '/etc/apparmor.d',
});

/** Why the default profile cannot be had: containers that do not insist on one run without it. */
export class NoApparmorParser extends CriError {}

/**
 * Loads the default profile into the kernel when it is not there; returns its name.
 * @throws NoApparmorParser (wrongState) when the parser is not installed; CriError internal with the parser's words
 */
export async function loadDefaultProfile(host: ApparmorHost, signal: AbortSignal): Promise<string> {
  const loaded = await readFile(host.loaded, 'utf8').catch(error => {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  });
  if (loaded.split('\n').some(line => line.startsWith(`${defaultProfileName} (`))) return defaultProfileName;
  if (!(await isThere(host.parser, constants.X_OK))) {
    const advice = 'install it (apt-get install apparmor), or ask for Unconfined';
    throw new NoApparmorParser(
      'wrongState',
      `the AppArmor profile ${defaultProfileName} cannot be loaded: there is no apparmor_parser; ${advice}`,
    );
  }
  const text = await profileText(host.configDir);
  const result = await run(host.parser, ['--skip-cache', '--replace', '--base', host.configDir], {
    input: text,
    timeoutMs: loadMs,
    signal,
  });
  if (result.exitCode === 0) return defaultProfileName;
  const words = result.stderr.trim() || 'it gave no reason';
  throw new CriError(
    'internal',
    `the AppArmor profile ${defaultProfileName} cannot be loaded: ${result.outcome}: ${words}`,
  );
}

async function isThere(path: string, mode: number = constants.R_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}

/** Of /proc/sys/kernel: what is the whole node's. */
const nodeSettings = [
  ...[
    'core_*',
    'dmesg_restrict',
    'ftrace*',
    'hotplug',
    'kexec_*',
    'kptr_restrict',
    'modprobe',
    'modules_disabled',
  ],
  ...[
    'oops_*',
    'panic*',
    'perf_*',
    'pid_max',
    'poweroff_cmd',
    'printk*',
    'randomize_va_space',
    'sysrq',
    'tainted',
  ],
  ...['threads-max', 'unprivileged_*'],
];

/** The profile, with what this host's AppArmor has to include. */
export async function profileText(configDir: string): Promise<string> {
  const has = (name: string) => isThere(join(configDir, name));
  const [tunables, base, abi] = await Promise.all([
    has('tunables/global'),
    has('abstractions/base'),
    has('abi/3.0'),
  ]);
  const name = defaultProfileName;
  return [
    ...(abi ? ['abi <abi/3.0>,'] : []),
    tunables ? '#include <tunables/global>' : '@{PROC}=/proc/',
    '',
    `profile ${name} flags=(attach_disconnected,mediate_deleted) {`,
    ...(base ? ['  #include <abstractions/base>'] : []),
    '  network,',
    '  unix,',
    '  capability,',
    '  file,',
    '  umount,',
    '',
    '  # The daemon, the runtime and conmon are unconfined, or have a profile of theirs; containers signal their own.',
    '  signal (receive) peer=unconfined,',
    '  signal (receive) peer=runc,',
    '  signal (receive) peer=crun,',
    `  signal (send,receive) peer=${name},`,
    `  ptrace (trace,read,tracedby,readby) peer=${name},`,
    '',
    '  # Of /proc/sys only what belongs to the namespaces of a pod may be written: net, kernel.shm*, msg*, sem.',
    '  deny @{PROC}/sys/{abi,debug,dev,fs,user,vm}/** wklx,',
    '  deny @{PROC}/sys/kernel/{keys,random,usermodehelper,yama}/** wklx,',
    `  deny @{PROC}/sys/kernel/{${nodeSettings.join(',')}} wklx,`,
    '  deny @{PROC}/{acpi,asound,bus,driver,fs,irq,scsi,tty}/** wklx,',
    '  deny @{PROC}/{kcore,sysrq-trigger} rwklx,',
    '',
    '  # Of /sys only cgroups, when they are given.',
    '  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wklx,',
    '  deny /sys/fs/[^c]** wklx,',
    '  deny /sys/{firmware,devices/virtual/powercap,kernel/security}/** r,',
    '',
    '  deny mount,',
    '}',
    '',
  ].join('\n');
}
