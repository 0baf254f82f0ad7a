// The mount table of this process, as far as propagation checks and mount options need it
// (/proc/PID/mountinfo, proc_pid_mountinfo(5)).

export interface MountInfo {
  readonly mountPoint: string;
  /** Of this mount alone: `rw`, `nosuid`, ... */
  readonly options: readonly string[];
  /** `shared:N`, `master:N`, ... */
  readonly optionalFields: readonly string[];
  readonly fsType: string;
  readonly superOptions: readonly string[];
}

/** Parses mountinfo; lines that are not well formed are left out. */
export function parseMountInfo(text: string): MountInfo[] {
  return text.split('\n').flatMap(line => {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    const mountPoint = fields[4];
    if (separator < 0 || mountPoint === undefined) return [];
    return [
      {
        mountPoint: unescapeOctal(mountPoint),
        options: (fields[5] ?? '').split(','),
        optionalFields: fields.slice(6, separator),
        fsType: fields[separator + 1] ?? '',
        superOptions: (fields[separator + 3] ?? '').split(','),
      },
    ];
  });
}

/** The mount that `path` (absolute, no links) lies on. Of mounts stacked on one point the last one is what is seen. */
export function mountOf(mounts: readonly MountInfo[], path: string): MountInfo | undefined {
  let found: MountInfo | undefined;
  for (const mount of mounts) {
    const { mountPoint } = mount;
    const holds = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (holds && mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found;
}

export function isShared(mount: MountInfo): boolean {
  return mount.optionalFields.some(field => field.startsWith('shared:'));
}

export function isSlave(mount: MountInfo): boolean {
  return mount.optionalFields.some(field => field.startsWith('master:'));
}

/** The kernel writes space, tab, newline and backslash as `\` and three octal digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
