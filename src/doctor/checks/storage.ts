// The directories of the daemon: writable, on a file system that fits, with room.
import type { Config } from '../../config/index.ts';
import { type Check, type Finding, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

/** File systems by the magic number that statfs(2) gives (linux/magic.h and others). */
const names: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
  [0x794c7630, 'overlay'],
  [0x6969, 'nfs'],
  [0xff534d42, 'cifs'],
  [0x65735546, 'fuse'],
  [0x2fc12fc1, 'zfs'],
  [0xf2f52010, 'f2fs'],
  [0x01021997, '9p'],
]);

/** overlayfs refuses an upper directory on these. */
const noUpper = ['overlay', 'nfs', 'cifs', '9p'];

const gibibyte = 1024 ** 3;
/** kubelet starts to remove images at 85 % and to evict pods at 90 % by default. */
const fullShare = 0.85;
const leastBytes = 1 * gibibyte;

export const directories: Check = {
  name: 'directories',
  run: (host, config) => {
    const places: readonly [string, string][] = [
      ['root', config.root],
      ['state', config.state],
      ['network namespaces', config.sandbox.netnsDir],
    ];
    return [
      ...places.map(([what, path]) => judgeWritable(host, what, path)),
      judgeRootFileSystem(host, config),
      judgeStateFileSystem(host, config),
    ];
  },
};

function judgeWritable(host: HostView, what: string, path: string): Finding {
  const why = 'the daemon keeps its files there';
  const reason = host.whyNotWritable(path);
  if (reason === undefined) return ok(`${what}: ${path} is writable`, why);
  return fail(
    `${what}: ${path} cannot be written: ${reason}`,
    why,
    `Run as root, remount the file system (mount -o remount,rw), or choose another ${what} directory in the configuration.`,
  );
}

function judgeRootFileSystem(host: HostView, config: Config): Finding {
  const { magic } = host.space(config.root);
  const name = nameOf(magic);
  const why = 'layers of images and the writable layers of containers are there, joined by overlayfs';
  const found = `root ${config.root} is on ${name}`;
  if (noUpper.includes(name)) {
    return fail(
      found,
      `${why}, which cannot write to ${name}`,
      'Put root on a disk with ext4 or xfs (--root, or root in the configuration).',
    );
  }
  if (name === 'tmpfs' || name === 'ramfs') {
    return warn(
      found,
      `${why}; in memory they are lost at reboot and count as memory`,
      'Put root on a disk with ext4 or xfs.',
    );
  }
  return ok(found, why);
}

function judgeStateFileSystem(host: HostView, config: Config): Finding {
  const name = nameOf(host.space(config.state).magic);
  const why = 'state must not survive a reboot, for nothing that it describes does';
  const found = `state ${config.state} is on ${name}`;
  return name === 'tmpfs' || name === 'ramfs'
    ? ok(found, why)
    : info(found, why, 'Choose a state directory under /run, where that is a tmpfs.');
}

export const diskSpace: Check = {
  name: 'disk space',
  run: (host, config) => {
    const { at, totalBytes, freeBytes, totalInodes, freeInodes } = host.space(config.root);
    const why = 'images and logs fill it; kubelet removes images from 85 % on and evicts pods from 90 % on';
    const found = `${at}: ${gibibytes(freeBytes)} GiB of ${gibibytes(totalBytes)} GiB free`;
    const mend = 'Free space, or put root on a larger disk (root in the configuration).';
    const findings: Finding[] = [
      freeBytes < leastBytes
        ? fail(found, why, mend)
        : totalBytes > 0 && 1 - freeBytes / totalBytes > fullShare
          ? warn(found, why, mend)
          : ok(found, why),
    ];
    if (totalInodes > 0 && freeInodes / totalInodes < 0.05) {
      findings.push(
        warn(`${at}: ${freeInodes} of ${totalInodes} inodes free`, 'images are many small files', mend),
      );
    }
    return findings;
  },
};

function nameOf(magic: number): string {
  return names.get(magic >>> 0) ?? `a file system with magic 0x${(magic >>> 0).toString(16)}`;
}

function gibibytes(bytes: number): string {
  return (bytes / gibibyte).toFixed(1);
}
