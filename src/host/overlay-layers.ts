// Of which directories an overlay that is mounted now consists, as /proc/PID/mountinfo tells (proc(5)): for people who
// want to mount the same by hand.
import { readFile } from 'node:fs/promises';

/**
 * The lower directories of the overlay at `target` in the mount namespace of a process, the uppermost first, as they were
 * given to mount(2): relative ones depend on where the mounter stood. undefined when no overlay is mounted there.
 */
export async function overlayLayers(pid: number, target: string): Promise<string[] | undefined> {
  const table = await readFile(`/proc/${pid}/mountinfo`, 'utf8');
  for (const line of table.trimEnd().split('\n').reverse()) {
    const [mount = '', fileSystem = ''] = line.split(' - ');
    const [type, , options = ''] = fileSystem.split(' ');
    if (type !== 'overlay' || plainPath(mount.split(' ')[4] ?? '') !== target) continue;
    const values = options.split(',').map(option => option.split('='));
    const joined = values.find(([key]) => key === 'lowerdir')?.[1]?.split(':');
    const single = values.filter(([key]) => key === 'lowerdir+').map(([, value = '']) => value);
    return (joined ?? single).map(plainPath);
  }
  return undefined;
}

/** Octal escapes of mountinfo: white space and backslash. */
function plainPath(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
