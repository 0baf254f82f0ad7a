// Overlay mounts of any number of layers, their owners mapped by a user namespace where that is asked for.
import { dirname, relative } from 'node:path';
import { mountIdmapped, unmountIdmapped } from './idmap.ts';
import { check, sys } from './libc.ts';
import { type MountFlag, mount } from './mount.ts';

export interface OverlayRequest {
  /** Absolute paths of the read-only layers, the topmost first. */
  lowerDirs: readonly string[];
  /** Writable layer and its work directory, on one file system. Without them the mount is read-only. */
  upper?: { upperDir: string; workDir: string };
  target: string;
  /**
   * The owners of the layers are mapped by the user namespace at `usernsPath`; the writable layer's are taken as they
   * are. `scratch` is a directory to be made for the moment, where the layers are mounted, and stay when the process is
   * killed: unmountIdmapped takes them away. It must not be in a directory that is removed with all that is in it.
   */
  idmap?: { usernsPath: string; scratch: string } | undefined;
  /** Further options, such as `userxattr` or `volatile`. */
  options?: readonly string[];
}

/**
 * The arguments of an overlay mount, with the layers named relative to their common parent, because mount(2)
 * takes options of at most one page and images of more than a hundred layers outgrow it with full paths.
 * The caller's working directory must be `cwd` during the mount.
 */
export function overlayArguments({ lowerDirs, upper, options = [] }: OverlayRequest): {
  cwd: string;
  data: string;
} {
  const cwd = commonParent(lowerDirs);
  const lower = lowerDirs.map(dir => escapeOption(relative(cwd, dir))).join(':');
  const writable = upper
    ? [`upperdir=${escapeOption(upper.upperDir)}`, `workdir=${escapeOption(upper.workDir)}`]
    : [];
  return { cwd, data: [`lowerdir=${lower}`, ...writable, ...options].join(',') };
}

/** Overlay's own escapes: a colon separates layers, a comma options. */
function escapeOption(path: string): string {
  return path.replace(/[\\:,]/g, match => `\\${match}`);
}

function commonParent(paths: readonly string[]): string {
  const first = paths[0];
  if (first === undefined) throw new Error('an overlay mount needs at least one lower directory');
  let parent = dirname(first);
  while (!paths.every(path => path.startsWith(parent === '/' ? '/' : `${parent}/`))) parent = dirname(parent);
  return parent;
}

/**
 * Mounts an overlay on a thread that has its own working directory. The daemon calls `mountOverlay` of
 * src/host/host-thread.ts, which runs this on the host thread.
 */
export function mountOverlayHere(request: OverlayRequest): void {
  const { cwd, data } = overlayArguments(request);
  if (Buffer.byteLength(data) >= 4096) {
    throw new Error(
      `mounting overlay on ${request.target}: ${request.lowerDirs.length} layers need ${Buffer.byteLength(data)} bytes of options, the kernel takes 4095`,
    );
  }
  const { idmap } = request;
  const flags: MountFlag[] = request.upper ? [] : ['ro'];
  const make = (): void => mount({ source: 'overlay', target: request.target, type: 'overlay', flags, data });
  if (idmap === undefined) {
    check(sys.chdir(cwd), 'chdir', `entering ${cwd}`);
    make();
    return;
  }
  // Overlayfs copies the mount that it finds the layers on, with its mapping: it need not stay.
  mountIdmapped(cwd, idmap.scratch, idmap.usernsPath, { withSubmounts: false, readonly: true });
  try {
    check(sys.chdir(idmap.scratch), 'chdir', `entering ${idmap.scratch}`);
    make();
  } finally {
    sys.chdir('/');
    unmountIdmapped(idmap.scratch);
  }
}
