// `linux.cgroupsPath` in the two dialects runtimes understand (runc docs/systemd.md).
import path from 'node:path';
import { refuse } from './refuse.ts';

export interface CgroupsPathRequest {
  subject: string;
  id: string;
  /** Cgroup parent of the pod, as kubelet gives it: `/kubepods/pod1` or `/kubepods.slice/kubepods-pod1.slice`. */
  parent: string;
  systemd: boolean;
}

const slicePrefix = 'cri-ts';

/** `parent/id` for cgroupfs; `slice:cri-ts:id` for systemd. Refuses a parent of the other kind. */
export function buildCgroupsPath({ subject, id, parent, systemd }: CgroupsPathRequest): string {
  if (parent.split('/').includes('..')) refuse(subject, 'cgroup_parent', `"${parent}" has ".." in it`);
  const base = path.posix.basename(parent);
  if (systemd) {
    if (parent !== '' && !base.endsWith('.slice')) {
      refuse(
        subject,
        'cgroup_parent',
        `"${parent}" is not a systemd slice; set SystemdCgroup = false for this handler, or kubelet's cgroupDriver to systemd`,
      );
    }
    return `${parent === '' ? 'system.slice' : base}:${slicePrefix}:${id}`;
  }
  if (base.endsWith('.slice')) {
    refuse(
      subject,
      'cgroup_parent',
      `"${parent}" is a systemd slice; set SystemdCgroup = true for this handler, or kubelet's cgroupDriver to cgroupfs`,
    );
  }
  return path.posix.join('/', parent === '' ? slicePrefix : parent, id);
}
