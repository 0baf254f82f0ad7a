// From the CRI's SELinux options to the labels of process and mounts.
import { createHash } from 'node:crypto';
import type { SELinuxOption } from '../../cri-api/types.ts';
import { refuse } from './refuse.ts';

export interface SelinuxLabels {
  /** `system_u:system_r:container_t:s0:c1,c2` */
  process: string;
  /** The label of the container's files, with the same level. */
  mount: string;
}

const levelForm = /^s\d(-s\d)?(:c\d{1,4}(\.c\d{1,4})?(,c\d{1,4}(\.c\d{1,4})?)*)?$/;

export interface SelinuxRequest {
  subject: string;
  asked: SELinuxOption | null;
  /** The level of a pod that names none (`freeLevel`): with two categories of its own, so that pods cannot touch each other's files. */
  podLevel: string;
}

/** Labels for a container or a pod. A field not asked for has the value of the container policy. */
export function buildSelinuxLabels({ subject, asked, podLevel }: SelinuxRequest): SelinuxLabels {
  const level = asked?.level ?? '';
  if (level !== '' && !levelForm.test(level)) {
    refuse(subject, 'selinux_options.level', `"${level}" is not a level such as s0:c1,c2`);
  }
  const user = asked?.user || 'system_u';
  const effective = level || podLevel || 's0';
  return {
    process: `${user}:${asked?.role || 'system_r'}:${asked?.type || 'container_t'}:${effective}`,
    mount: `system_u:object_r:container_file_t:${effective}`,
  };
}

/**
 * A level with two categories below `range` that none of `taken` has; derived from the pod's id, so that it does not tell
 * the order of pods. When all pairs are taken, one is shared.
 */
export function freeLevel(sandboxId: string, range: number, taken: ReadonlySet<string>): string {
  const pairs = (range * (range - 1)) / 2;
  const start = createHash('sha256').update(sandboxId).digest().readUInt32BE(0) % pairs;
  for (let i = 0; i < pairs; i++) {
    const level = levelOfPair((start + i) % pairs);
    if (!taken.has(level)) return level;
  }
  return levelOfPair(start);
}

/** The pairs in the order 0,1; 0,2; 1,2; 0,3; ... */
function levelOfPair(index: number): string {
  const second = Math.floor((1 + Math.sqrt(1 + 8 * index)) / 2);
  const first = index - (second * (second - 1)) / 2;
  return `s0:c${first},c${second}`;
}
