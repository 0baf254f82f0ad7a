// SELinux labels of files: a volume that a pod asks to have relabelled gets its pod's label, recursively.
import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { getXattr, setXattr } from './files-ffi.ts';
import { HostError } from './libc.ts';

const attribute = 'security.selinux';

/** Directories that a node lives from: with another label nothing of it would work any more. */
const ofTheNode: readonly string[] = [
  ...['/', '/bin', '/boot', '/dev', '/etc', '/etc/passwd', '/etc/pki', '/etc/shadow', '/home', '/lib'],
  ...['/lib64', '/media', '/mnt', '/opt', '/proc', '/root', '/run', '/sbin', '/srv', '/sys', '/system'],
  ...['/tmp', '/usr', '/var', '/var/lib', '/var/log'],
];

/** Whether this path may be relabelled; the node's own directories may not. */
export function mayBeRelabelled(path: string): boolean {
  return !ofTheNode.includes(resolve(path));
}

/**
 * Gives `path` and all below it the label; links are labelled themselves, never followed. A file system without labels
 * of files is left as it is. @throws HostError
 */
export function relabel(path: string, label: string): void {
  const value = Buffer.from(`${label}\0`, 'latin1');
  visit(Buffer.from(path).toString('latin1'), lstatSync(path).isDirectory(), value);
}

/** Paths are latin1 here, as files-ffi.ts has them. */
function visit(path: string, isDirectory: boolean, value: Buffer): void {
  if (!setLabel(path, value)) return;
  if (!isDirectory) return;
  const entries: Dirent<Buffer>[] = readdirSync(Buffer.from(path, 'latin1'), {
    withFileTypes: true,
    encoding: 'buffer',
  });
  for (const entry of entries) {
    visit(`${path}/${entry.name.toString('latin1')}`, entry.isDirectory(), value);
  }
}

/** False when there are no labels on this file system, or the entry has just gone. */
function setLabel(path: string, value: Buffer): boolean {
  try {
    if (getXattr(path, attribute)?.equals(value)) return true;
    setXattr(path, attribute, value);
    return true;
  } catch (error) {
    if (error instanceof HostError && ['ENOTSUP', 'EOPNOTSUPP', 'ENOENT', 'EROFS'].includes(error.code))
      return false;
    throw error;
  }
}
