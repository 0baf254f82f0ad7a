// What is pulled between power cuts: images on busybox that share their lower layers, from a registry in the VM.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type Liar, startLiar } from '../../support/image/liar.ts';
import { type Entry, filesLike, layerOf, makeImage, makeTar } from '../../support/image/make-image.ts';

const layerBytes = 2 << 20;

/** A registry with images by name; what differs from one to the next is the last layer, made of the seed. */
export async function serveImages(seed: number): Promise<{ registry: Liar; names: string[] }> {
  const applets = execFileSync('busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
  const links = applets
    .filter(name => name !== 'busybox')
    .map((name): Entry => ({ name: `bin/${name}`, type: 'symlink', linkname: 'busybox' }));
  const busybox: Entry[] = [
    ...['bin', 'etc', 'proc', 'sys', 'dev', 'tmp'].map(
      (name): Entry => ({ name, type: 'directory', mode: 0o755 }),
    ),
    { name: 'bin/busybox', content: readFileSync('/bin/busybox'), mode: 0o755 },
    ...links,
  ];
  const base = [layerOf(await makeTar(busybox)), layerOf(await makeTar(filesLike('shared', layerBytes, 1)))];
  const registry = await startLiar();
  const names: string[] = [];
  for (const number of [1, 2]) {
    // Seeds that differ in the last bit alone make the same files, and two names of one image go together.
    const own = layerOf(await makeTar(filesLike('own', layerBytes, 4 * seed + 2 * number)));
    registry.addImage(makeImage([...base, own], { config: { Env: ['PATH=/bin'] } }), `v${number}`);
    names.push(`${registry.address}/app:v${number}`);
  }
  return { registry, names };
}
