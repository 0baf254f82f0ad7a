// Which capabilities a container's process gets (CRI Capability; capabilities(7)).
import type { Capability } from '../../cri-api/types.ts';
import { capabilityNames } from '../../host/capabilities.ts';
import { refuse } from './refuse.ts';
import type { Capabilities } from './types.ts';

/** What an unprivileged container has when nothing else is said: the set Docker and containerd use. */
export const defaultCapabilities: readonly string[] = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
];

export const noCapabilities: Capabilities = {
  bounding: [],
  effective: [],
  permitted: [],
  inheritable: [],
  ambient: [],
};

export interface CapabilityRequest {
  subject: string;
  asked: Capability | null;
  privileged: boolean;
  /** What it has when nothing is said; default: `defaultCapabilities`. */
  defaults?: readonly string[] | undefined;
  /** The bounding set of the daemon. */
  available: readonly string[];
  /** Told of a capability that was asked for but is not available here. */
  warn: (message: string) => void;
}

/**
 * ALL comes first and single names after it, so that `add: ALL, drop: CHOWN` is everything but CHOWN.
 * A capability named in both lists is dropped. What this host does not have is left out with a warning.
 */
export function buildCapabilities(request: CapabilityRequest): Capabilities {
  const { subject, asked, privileged, defaults = defaultCapabilities, available, warn } = request;
  const add = checkedNames(subject, 'add_capabilities', asked?.addCapabilities ?? []);
  const drop = checkedNames(subject, 'drop_capabilities', asked?.dropCapabilities ?? []);
  const ambient = checkedNames(subject, 'add_ambient_capabilities', asked?.addAmbientCapabilities ?? []);
  if (privileged) return sets(available, []);

  const start = drop.all ? [] : add.all ? available : defaults;
  const wanted = new Set([...start, ...add.names, ...ambient.names, ...(ambient.all ? available : [])]);
  for (const name of drop.names) wanted.delete(name);

  const missing = [...wanted].filter(name => !available.includes(name));
  const missed = missing.filter(name => add.names.includes(name) || ambient.names.includes(name));
  if (missed.length > 0) {
    warn(`${subject}: ${missed.join(', ')} left out: the daemon itself does not have it`);
  }
  const had = available.filter(name => wanted.has(name));
  return sets(
    had,
    had.filter(name => ambient.all || ambient.names.includes(name)),
  );
}

function sets(had: readonly string[], ambient: readonly string[]): Capabilities {
  return {
    bounding: [...had],
    effective: [...had],
    permitted: [...had],
    // The kernel keeps ambient within inheritable; without ambient, inheritable stays empty (CVE-2022-24769).
    inheritable: [...ambient],
    ambient: [...ambient],
  };
}

function checkedNames(
  subject: string,
  field: string,
  given: readonly string[],
): { all: boolean; names: string[] } {
  const upper = given.map(name => name.toUpperCase());
  const names = upper
    .filter(name => name !== 'ALL')
    .map(name => (name.startsWith('CAP_') ? name : `CAP_${name}`));
  const known: readonly string[] = capabilityNames;
  const unknown = names.find(name => !known.includes(name));
  if (unknown !== undefined) refuse(subject, field, `${unknown} is not a Linux capability`);
  return { all: upper.includes('ALL'), names };
}
