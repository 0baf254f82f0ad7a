// The image that tests run: busybox, from Debian's static build, as an OCI layout on disk.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type Entry, layerOf, makeImage, makeTar, writeLayout } from './image/make-image.ts';

const passwd =
  'root:x:0:0:root:/root:/bin/sh\nalice:x:1234:5678:alice:/home/alice:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n';
const group = 'root:x:0:\nwheel:x:10:alice\nstaff:x:5678:\nnogroup:x:65534:\n';

/** Writes an OCI layout of busybox into a directory, under one name: every applet, users to run as, and `extra`. */
export async function writeBusyboxLayout(
  directory: string,
  config: Record<string, unknown> = {},
  name = 'docker.io/test/busybox:latest',
  extra: readonly Entry[] = [],
): Promise<void> {
  const applets = execFileSync('busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
  const entries: Entry[] = [
    ...['bin', 'etc', 'proc', 'sys', 'dev', 'root', 'home', 'usr', 'var', 'var/www'].map(
      (name): Entry => ({ name, type: 'directory', mode: 0o755 }),
    ),
    { name: 'tmp', type: 'directory', mode: 0o1777 },
    { name: 'bin/busybox', content: readFileSync('/bin/busybox'), mode: 0o755 },
    ...applets
      .filter(applet => applet !== 'busybox')
      .map((applet): Entry => ({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox' })),
    { name: 'etc/passwd', content: passwd },
    { name: 'etc/group', content: group },
    { name: 'home/alice', type: 'directory', mode: 0o700, uid: 1234, gid: 5678 },
    { name: 'home/alice/notes', content: 'hers\n', mode: 0o640, uid: 1234, gid: 5678 },
    { name: 'home/alice/link', type: 'symlink', linkname: 'notes', uid: 1234, gid: 5678 },
    { name: 'var/www/index.html', content: 'it works\n' },
    ...extra,
  ];
  const image = makeImage([layerOf(await makeTar(entries))], {
    config: { Env: ['PATH=/bin'], Cmd: ['sh'], WorkingDir: '/', ...config },
  });
  await writeLayout(directory, [{ image, name }]);
}

/** Imports a layout into the root of a daemon that does not run. */
export async function importLayout(
  { root, state }: { root: string; state: string },
  layout: string,
): Promise<void> {
  const script = fileURLToPath(new URL('./import-layout.mjs', import.meta.url));
  await execa(process.execPath, [script, root, state, layout]);
}
