// An image as programs of a distribution are in one: Debian's nginx-light, each of its packages and libraries a layer, as
// hack/install-deps.sh has fetched them. Their own configuration is kept; the last layer says what is served.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Entry, type Image, layerOf, makeImage, makeTar } from './image/make-image.ts';

const packages = fileURLToPath(new URL('../../.cache/nginx-light', import.meta.url));
const maxArchiveBytes = 64 * 1024 * 1024;

const directory = (name: string): Entry => ({ name, type: 'directory', mode: 0o755 });
const link = (name: string, linkname: string): Entry => ({ name, type: 'symlink', linkname });

/** An image whose nginx serves `page` at `/`, and the text `echoed` by its echo module at `/echo`, on port 80. */
export async function makeNginxImage(page: string): Promise<Image> {
  if (!existsSync(join(packages, 'complete'))) {
    throw new Error('the packages of nginx-light are missing: hack/test.sh fetches them');
  }
  const base: Entry[] = [
    ...['dev', 'etc', 'proc', 'sys', 'run', 'usr', 'usr/bin', 'usr/lib', 'usr/lib64', 'var'].map(directory),
    // Packages of Debian 13 count on these, those of Debian 12 replace them.
    ...['bin', 'lib', 'lib64'].map(name => link(name, `usr/${name}`)),
    { name: 'etc/passwd', content: 'root:x:0:0::/:/bin/false\nwww-data:x:33:33::/var/www:/bin/false\n' },
    { name: 'etc/group', content: 'root:x:0:\nwww-data:x:33:\n' },
  ];
  const site = `server {
  listen 80;
  root /var/www/html;
  location = /echo { echo echoed; }
}
`;
  const served: Entry[] = [
    // What the packages' scripts would do when they are installed.
    link(
      'etc/nginx/modules-enabled/50-mod-http-echo.conf',
      '/usr/share/nginx/modules-available/mod-http-echo.conf',
    ),
    { name: 'etc/nginx/sites-enabled/default', content: site },
    { name: 'var/www/html/index.html', content: page },
  ];
  const archives = readdirSync(packages)
    .filter(name => name.endsWith('.deb'))
    .sort()
    .map(name =>
      execFileSync('dpkg-deb', ['--fsys-tarfile', join(packages, name)], { maxBuffer: maxArchiveBytes }),
    );
  const layers = [await makeTar(base), ...archives, await makeTar(served)].map(archive => layerOf(archive));
  return makeImage(layers, {
    config: { Entrypoint: ['/usr/sbin/nginx'], Cmd: ['-g', 'daemon off;'], ExposedPorts: { '80/tcp': {} } },
  });
}
