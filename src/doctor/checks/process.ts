// What this process may do: it speaks for the daemon when it is started the same way.
import { passedOn } from '../../host/facts.ts';
import { type Check, type Finding, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

/** Bit numbers of capabilities (linux/capability.h). */
const capabilityBits = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_SYS_CHROOT: 18,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
  CAP_MKNOD: 27,
  CAP_AUDIT_WRITE: 29,
  CAP_SETFCAP: 31,
} as const;
type Capability = keyof typeof capabilityBits;

/** Without these no pod starts. */
const indispensable: readonly Capability[] = [
  'CAP_SYS_ADMIN',
  'CAP_NET_ADMIN',
  'CAP_DAC_OVERRIDE',
  'CAP_CHOWN',
];

export const capabilities: Check = {
  name: 'capabilities',
  run: host => {
    const status = host.readText('/proc/self/status') ?? '';
    const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
    const missing = (Object.keys(capabilityBits) as Capability[]).filter(
      name => ((effective >> BigInt(capabilityBits[name])) & 1n) === 0n,
    );
    const findings: Finding[] = [];
    if (host.uid !== 0) {
      findings.push(
        fail(
          `runs as user ${host.uid}`,
          'mounts, namespaces and cgroups of pods are made by root',
          'Run cri-ts (and this command) as root.',
        ),
      );
    }
    const fatal = missing.filter(name => indispensable.includes(name));
    if (fatal.length > 0) {
      findings.push(
        fail(
          `missing: ${fatal.join(', ')}`,
          'mounts, namespaces and interfaces of pods need them',
          'Remove the CapabilityBoundingSet= that withholds them from the service unit, or leave the container this runs in.',
        ),
      );
    }
    if (missing.includes('CAP_SYS_RESOURCE')) {
      findings.push(
        warn(
          'missing: CAP_SYS_RESOURCE',
          "oom_score_adj of containers is clamped to the daemon's own, so kubelet's ranking of pods at out-of-memory is coarser; rlimits are not raised",
          'Give the service CAP_SYS_RESOURCE; where the machine withholds it, nothing is needed: values are clamped.',
        ),
      );
    }
    const others = missing.filter(name => name !== 'CAP_SYS_RESOURCE' && !indispensable.includes(name));
    if (others.length > 0) {
      findings.push(
        warn(
          `missing: ${others.join(', ')}`,
          'containers cannot be given what the daemon does not have; those that ask for it fail',
          'Remove the CapabilityBoundingSet= that withholds them from the service unit.',
        ),
      );
    }
    return findings.length > 0 ? findings : [ok('all that are needed', 'pods are made with them')];
  },
};

export const restrictions: Check = {
  name: 'restrictions',
  run: host => {
    const found = passedOn(host.readText('/proc/self/status') ?? '');
    const why = 'containers inherit them, privileged and unconfined ones too';
    if (found.length === 0) return [ok('no seccomp filter, no no_new_privs', why)];
    return [
      warn(
        `runs with ${found.join(' and ')}`,
        why,
        'Remove SystemCallFilter=, LockPersonality=, NoNewPrivileges= and other hardening from the service unit, or leave the container this runs in.',
      ),
    ];
  },
};

export const resourceLimits: Check = {
  name: 'resource limits',
  run: host => {
    const limits = host.readText('/proc/self/limits') ?? '';
    return [
      judgeLimit(
        limits,
        'Max open files',
        65_536,
        'containers inherit the limit, and databases and proxies in them need many files',
        'LimitNOFILE=1048576 in the service unit',
      ),
      judgeLimit(
        limits,
        'Max processes',
        32_768,
        'containers inherit the limit',
        'LimitNPROC=infinity in the service unit',
      ),
      ...judgeProcessIds(host),
    ];
  },
};

function judgeLimit(limits: string, name: string, wanted: number, why: string, mend: string): Finding {
  const [, hard] = new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, 'm').exec(limits) ?? [];
  if (hard === undefined) return info(`${name}: not known`, why);
  const found = `${name}: ${hard}`;
  return hard === 'unlimited' || Number(hard) >= wanted ? ok(found, why) : warn(found, why, mend);
}

function judgeProcessIds(host: HostView): Finding[] {
  const most = Number(host.readText('/proc/sys/kernel/pid_max')?.trim());
  if (!Number.isFinite(most)) return [];
  const why = 'every thread of every container has a process id';
  if (most >= 32_768) return [ok(`kernel.pid_max = ${most}`, why)];
  return [
    warn(
      `kernel.pid_max = ${most}`,
      why,
      "echo 'kernel.pid_max = 4194304' > /etc/sysctl.d/99-pid-max.conf && sysctl --system",
    ),
  ];
}
