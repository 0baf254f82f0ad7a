// Images out of archives, into shared layers, under containers, and away again.
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fileTypes, mknod, setXattr } from '../../src/host/files-ffi.ts';
import { mount as bindMount } from '../../src/host/mount.ts';
import {
  filesLike,
  type Image,
  layerOf,
  makeImage,
  makeTar,
  writeLayout,
} from '../support/image/make-image.ts';
import { openTestImages, type TestImages } from '../support/image/open-images.ts';

let test: TestImages;
const isNumber = (name: string) => /^[0-9]+$/.test(name);
beforeEach(async () => {
  test = await openTestImages();
});
afterEach(() => test.remove());

const zstd = (bytes: Buffer) => execFileSync('zstd', ['-q', '-c'], { input: bytes, maxBuffer: 1 << 30 });
const simple = async (text: string, config?: Record<string, unknown>): Promise<Image> =>
  makeImage(
    [
      layerOf(
        await makeTar([
          { name: 'etc/', type: 'directory' },
          { name: 'etc/text', content: text },
        ]),
      ),
    ],
    config ? { config } : {},
  );

const foreign = async (text: string, architecture: string): Promise<Image> => {
  const { layers } = await simple(text);
  return makeImage(layers, { architecture });
};

async function layoutOf(image: Image, name = 'test:1'): Promise<string> {
  const path = join(
    test.directory,
    `layout-${image.manifest.digest.slice(7, 19)}-${name.replace(/\W/g, '')}`,
  );
  await writeLayout(path, [{ image, name }]);
  return path;
}

const layerDirectories = () => readdirSync(join(test.root, 'layers')).filter(name => /^\d+$/.test(name));
const blobs = () => readdirSync(join(test.root, 'content/blobs/sha256'));
const du = (...paths: string[]) =>
  execFileSync('du', ['-c', '-s', '--block-size=1', ...paths], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map(line => Number(line.split('\t')[0]));

describe('importing', () => {
  it.each(['gzip', 'none', 'zstd'] as const)('takes an OCI layout with %s layers', async compression => {
    const tar = await makeTar([{ name: 'f', content: compression }]);
    const image = makeImage([layerOf(tar, compression, compression === 'zstd' ? zstd : undefined)]);
    const [imported] = await test.images.import(await layoutOf(image));
    expect(imported?.id).toBe(image.config.digest);
    expect(imported?.names).toEqual([
      'docker.io/library/test:1',
      `docker.io/library/test@${image.manifest.digest}`,
    ]);
    expect(readFileSync(join(test.root, 'layers/1/f'), 'utf8')).toBe(compression);
  });

  it('takes what skopeo writes: OCI archives and docker archives, compressed or not', async () => {
    const layout = await layoutOf(await simple('skopeo'), 'one');
    const file = (name: string) => join(test.directory, name);
    execFileSync('skopeo', [
      'copy',
      '-q',
      `oci:${layout}:one`,
      `oci-archive:${file('oci.tar')}:docker.io/library/app:1`,
    ]);
    execFileSync('skopeo', [
      'copy',
      '-q',
      `oci:${layout}:one`,
      `docker-archive:${file('docker.tar')}:example.com/app:2`,
    ]);
    writeFileSync(file('docker.tar.gz'), gzipSync(readFileSync(file('docker.tar'))));
    writeFileSync(file('docker.tar.zst'), zstd(readFileSync(file('docker.tar'))));
    const [oci] = await test.images.import(file('oci.tar'));
    for (const name of ['docker.tar', 'docker.tar.gz', 'docker.tar.zst']) {
      const [docker] = await test.images.import(file(name));
      expect(docker?.id).toBe(oci?.id);
    }
    expect(test.images.list()).toHaveLength(1);
    expect(test.images.list()[0]?.repoTags).toEqual(['docker.io/library/app:1', 'example.com/app:2']);
    expect(layerDirectories()).toEqual(['1']);
  });

  it.each(['gzip', 'zstd'] as const)('takes docker archives whose layers are %s', async compression => {
    const layers = await Promise.all(
      ['one', 'two'].map(async text =>
        layerOf(
          await makeTar([{ name: text, content: text }]),
          compression,
          compression === 'zstd' ? zstd : undefined,
        ),
      ),
    );
    const image = makeImage(layers);
    const names = layers.map(({ digest }) => `${digest.slice(7)}.tar.${compression}`);
    const manifest = [{ Config: 'config.json', RepoTags: ['app:1'], Layers: names }];
    const archive = join(test.directory, 'docker.tar');
    await writeFile(
      archive,
      await makeTar([
        { name: 'config.json', content: image.config.bytes },
        ...layers.map(({ bytes }, index) => ({ name: names[index] ?? '', content: bytes })),
        { name: 'manifest.json', content: JSON.stringify(manifest) },
      ]),
    );
    const [imported] = await test.images.import(archive);
    expect(imported?.id).toBe(image.config.digest);
    expect(blobs()).toEqual(expect.arrayContaining(layers.map(({ digest }) => digest.slice(7))));
    expect(await test.images.verify()).toEqual([]);
    const exported = join(test.directory, 'exported.tar');
    await test.images.export(['app:1'], exported);
    await test.images.remove('app:1');
    expect((await test.images.import(exported))[0]?.id).toBe(image.config.digest);
  });

  it('takes several images from one archive, and names one by --name', async () => {
    const images = [await simple('one'), await simple('two')];
    const layout = join(test.directory, 'several');
    await writeLayout(
      layout,
      images.map((image, index) => ({ image, name: `app:${index}` })),
    );
    expect(await test.images.import(layout)).toHaveLength(2);
    expect(test.images.resolve('app:1').id).toBe(images[1]?.config.digest);
    await test.images.import(layout, { name: 'other' });
    expect(test.images.resolve('other:0').id).toBe(images[0]?.config.digest);
    const single = await layoutOf(await simple('three'));
    await test.images.import(single, { name: 'quay.io/x/y:v3' });
    expect(test.images.status('quay.io/x/y:v3')).toBeDefined();
    expect(test.images.status('test:1')).toBeUndefined();
  });

  it('takes of images under one name the one for this node, and no other', async () => {
    const images = [await simple('this'), await foreign('that', 'arm64'), await foreign('old', '386')];
    const layout = join(test.directory, 'platforms');
    await writeLayout(
      layout,
      images.map(image => ({ image, name: 'app:1' })),
    );
    for (const name of [undefined, 'other']) {
      const imported = await test.images.import(layout, { name });
      expect(imported.map(({ id }) => id)).toEqual([images[0]?.config.digest]);
    }
    expect(test.images.list()).toHaveLength(1);
  });

  it('refuses what is for other nodes alone: OCI layouts and docker archives', async () => {
    const image = await foreign('that', 'arm64');
    const layout = await layoutOf(image);
    const refusal = /holds no image for linux\/amd64, only for linux\/arm64/;
    await expect(test.images.import(layout)).rejects.toThrow(refusal);
    const archive = join(test.directory, 'docker.tar');
    execFileSync('skopeo', ['copy', '-q', `oci:${layout}:test:1`, `docker-archive:${archive}:app:2`]);
    await expect(test.images.import(archive)).rejects.toThrow(refusal);
    expect(test.images.list()).toEqual([]);
  });

  it('unpacks the same tree as umoci', async () => {
    const layers = [
      layerOf(await makeTar(filesLike('usr', 2_000_000, 3))),
      layerOf(
        await makeTar([
          { name: 'usr/.wh.d0', content: '' },
          { name: 'usr/d1/', type: 'directory', mode: 0o700 },
          { name: 'usr/d1/.wh..wh..opq', content: '' },
          { name: 'usr/d1/new', content: 'n', mode: 0o4711 },
        ]),
      ),
    ];
    const layout = await layoutOf(makeImage(layers), 'app');
    await test.images.import(layout);
    await test.images.rootfs.prepare('c1', test.images.resolve('app').id, { readonly: false });
    const mounted = await test.images.rootfs.mount('c1');
    const bundle = join(test.directory, 'bundle');
    execFileSync('umoci', ['unpack', '--image', `${layout}:app`, bundle]);
    const tree = (root: string) =>
      execFileSync('find', ['.', '-mindepth', '1', '-printf', '%P %y %m %U %G %s %T@\n'], {
        cwd: root,
        encoding: 'utf8',
        maxBuffer: 1 << 28,
      })
        .split('\n')
        .map(line => line.replace(/ d (.*) \d+ (\S+)$/, ' d $1'))
        .sort();
    expect(tree(mounted)).toEqual(tree(join(bundle, 'rootfs')));
    expect(execFileSync('diff', ['-r', mounted, join(bundle, 'rootfs')], { encoding: 'utf8' })).toBe('');
  });

  it('keeps the modes of files whatever the umask of the daemon is', async () => {
    const archive = await makeTar([
      { name: 'implicit/file', content: 'x', mode: 0o644 },
      { name: 'd/', type: 'directory', mode: 0o755 },
    ]);
    const before = process.umask(0o077);
    try {
      await test.images.import(await layoutOf(makeImage([layerOf(archive)])));
    } finally {
      process.umask(before);
    }
    const modes = ['', 'implicit', 'implicit/file', 'd'].map(
      path => statSync(join(test.root, 'layers/1', path)).mode & 0o7777,
    );
    expect(modes).toEqual([0o755, 0o755, 0o644, 0o755]);
  });

  it('says what is wrong with a file that is no image, and keeps nothing of it', async () => {
    const bad = join(test.directory, 'bad');
    await writeFile(bad, 'this is not a tar archive, and it is longer than one block '.repeat(20));
    await expect(test.images.import(bad)).rejects.toThrow(/tar archive is damaged/);
    await expect(test.images.import(join(test.directory, 'absent'))).rejects.toThrow(/absent does not exist/);
    await writeFile(bad, await makeTar([{ name: 'x', content: 'y' }]));
    await expect(test.images.import(bad)).rejects.toThrow(/holds no images/);
    await writeFile(bad, await makeTar([{ name: 'index.json', content: '{' }]));
    await expect(test.images.import(bad)).rejects.toThrow(/index\.json of .* is not JSON/);
    expect([test.images.list(), layerDirectories(), blobs()]).toEqual([[], [], []]);
  });

  it('refuses a layer that is not what its digest or diffID says', async () => {
    const image = await simple('right');
    const layer = image.layers[0];
    const wrongDigest = await layoutOf(image, 'a');
    await writeFile(
      join(wrongDigest, 'blobs/sha256', layer?.digest.slice(7) ?? ''),
      gzipSync(await makeTar([{ name: 'evil', content: '' }])),
    );
    await expect(test.images.import(wrongDigest)).rejects.toThrow(
      /its content is not what the manifest names|the manifest states/,
    );
    const other = layerOf(await makeTar([{ name: 'x', content: 'y' }]));
    const wrongDiffId = makeImage([{ ...other, diffId: `sha256:${'0'.repeat(64)}` }]);
    await expect(test.images.import(await layoutOf(wrongDiffId, 'b'))).rejects.toThrow(
      /config states diffID/,
    );
    expect([test.images.list(), layerDirectories()]).toEqual([[], []]);
  });

  it('refuses decompression bombs before they fill the disk', async () => {
    const zeros = Buffer.alloc(1 << 28);
    const archive = await makeTar([
      { name: 'a', content: zeros },
      { name: 'b', content: zeros },
      { name: 'c', content: zeros },
      { name: 'd', content: zeros },
      { name: 'e', content: zeros },
    ]);
    const image = makeImage([layerOf(archive, 'zstd', zstd)]);
    await expect(test.images.import(await layoutOf(image))).rejects.toThrow(/decompression bomb/);
    expect(layerDirectories()).toEqual([]);
    const whole = join(test.directory, 'bomb.tar.zst');
    await writeFile(whole, zstd(archive));
    await expect(test.images.import(whole)).rejects.toThrow(/archive .*bomb.tar.zst .*decompression bomb/);
    expect(readdirSync(join(test.root, 'content/ingest'))).toEqual([]);
  });
});

describe('what is told of images', () => {
  it('is found by name, by id and by the beginning of an id', async () => {
    const image = await simple('x', { User: '1000:1000', Env: ['A=b'], Entrypoint: ['/e'], Cmd: null });
    await test.images.import(await layoutOf(image));
    const id = image.config.digest;
    for (const reference of [
      'test:1',
      'docker.io/library/test:1',
      `test@${image.manifest.digest}`,
      id,
      id.slice(7),
      id.slice(7, 17),
    ]) {
      expect(test.images.resolve(reference).id).toBe(id);
    }
    const found = test.images.resolve('test:1');
    expect(found).toMatchObject({
      uid: 1000,
      username: '',
      user: '1000:1000',
      config: { Env: ['A=b'], Entrypoint: ['/e'] },
    });
    expect(found.size).toBe(image.manifest.size + image.config.size + (image.layers[0]?.size ?? 0));
    for (const filter of ['test:1', 'test', 'docker.io/library/test', id.slice(7, 17)])
      expect(test.images.list(filter), filter).toHaveLength(1);
    for (const filter of ['test:2', 'tes', 'other/test'])
      expect(test.images.list(filter), filter).toEqual([]);
    expect(test.images.list('other')).toEqual([]);
    expect(() => test.images.resolve('other')).toThrow(/image "other" is not on this node/);
  });

  it('refuses the beginning of an id that fits two', async () => {
    const known = new Set<string>();
    for (let i = 0; ; i++) {
      const image = await simple(`image ${i}`);
      await test.images.import(await layoutOf(image, `many:${i}`));
      const first = image.config.digest.slice(7, 8);
      if (known.has(first)) {
        expect(() => test.images.resolve(first)).toThrow(/fits 2 images/);
        return;
      }
      known.add(first);
    }
  });

  it('reports pinned images as pinned', async () => {
    await test.remove();
    test = await openTestImages({ pinned: ['test:1'] });
    await test.images.import(await layoutOf(await simple('pause')));
    await test.images.import(await layoutOf(await simple('other'), 'other:1'));
    expect(
      test.images
        .list()
        .map(({ repoTags, pinned }) => [repoTags[0], pinned])
        .sort(),
    ).toEqual([
      ['docker.io/library/other:1', false],
      ['docker.io/library/test:1', true],
    ]);
  });

  it('counts disk usage as du does', async () => {
    const image = makeImage([
      layerOf(
        await makeTar([
          ...filesLike('a', 3_000_000, 5),
          { name: 'a/hard', type: 'link', linkname: 'a/d0/file-0' },
        ]),
      ),
    ]);
    await test.images.import(await layoutOf(image));
    await test.images.rootfs.prepare('c1', image.config.digest, { readonly: false });
    writeFileSync(join(await test.images.rootfs.mount('c1'), 'written'), Buffer.alloc(1_000_000, 1));
    execFileSync('sync');
    const { images, containers } = await test.images.fsInfo();
    expect(images.usedBytes).toBe(du(join(test.root, 'content'), join(test.root, 'layers')).at(-1));
    expect(containers.usedBytes).toBe(du(join(test.root, 'containers'))[0]);
    expect((await test.images.rootfs.usage('c1')).bytes).toBe(du(join(test.root, 'containers/c1/upper'))[0]);
    await test.images.rootfs.unmount('c1');
  });

  it('is told of one file system when all lies on one, and of two when not', async () => {
    const mountpoints = async () => {
      const { images, containers } = await test.images.fsInfo();
      return [images.mountpoint, containers.mountpoint];
    };
    const containers = join(test.root, 'containers');
    expect(await mountpoints()).toEqual([containers, containers]);
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', containers]);
    try {
      expect(await mountpoints()).toEqual([join(test.root, 'layers'), containers]);
    } finally {
      execFileSync('umount', [containers]);
    }
  });

  it('is measured without a worker process where little is to be measured, and keeps none for long otherwise', async () => {
    expect((await test.images.fsInfo()).images.inodesUsed).toBeGreaterThan(0); // directories of a tmpfs have no bytes
    expect(workers()).toEqual([]);
    const many = join(test.root, 'containers/c1/upper');
    mkdirSync(many, { recursive: true });
    for (let i = 0; i < 1000; i++) writeFileSync(join(many, String(i)), '');
    expect((await test.images.fsInfo()).containers.inodesUsed).toBe(1000 + 3);
    expect(workers()).toHaveLength(1);
    await expect.poll(workers, { timeout: 30_000, interval: 200 }).toEqual([]);
  });

  it('and all else that is heavy is the work of processes below the daemon in priority, with all their threads', async () => {
    await test.images.import(await layoutOf(await simple('heavy')));
    expect(workers().length).toBeGreaterThan(0);
    for (const pid of workers()) {
      const threads = readdirSync(`/proc/${pid}/task`).map(Number);
      expect(threads.length).toBeGreaterThan(1);
      expect(threads.map(thread => getPriority(thread))).toEqual(threads.map(() => 10));
    }
  });
});

/** Pids of image workers that this process has started. */
function workers(): number[] {
  return readdirSync('/proc').filter(isWorker).map(Number);
}

function isWorker(pid: string): boolean {
  try {
    const [, parent] = /PPid:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    const isEnding = /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return Number(parent) === process.pid && !isEnding && command.includes('image/worker.');
  } catch {
    return false; // no process, or none any more
  }
}

describe('root filesystems', () => {
  it('stand on 130 layers, more than fit on one page of mount options', async () => {
    const layers = [];
    for (let i = 0; i < 130; i++)
      layers.push(
        layerOf(
          await makeTar([
            { name: `f${i}`, content: `${i}` },
            { name: 'top', content: `${i}` },
          ]),
        ),
      );
    const image = makeImage(layers);
    await test.images.import(await layoutOf(image));
    await test.images.rootfs.prepare('c1', image.config.digest, { readonly: false });
    const mounted = await test.images.rootfs.mount('c1');
    expect(await test.images.rootfs.mount('c1')).toBe(mounted);
    expect(readFileSync(join(mounted, 'top'), 'utf8')).toBe('129');
    expect(readdirSync(mounted)).toHaveLength(131);
    writeFileSync(join(mounted, 'new'), 'x');
    await rm(join(mounted, 'f0'));
    expect(readdirSync(test.images.rootfs.upperDirectory('c1')).sort()).toEqual(['f0', 'new']);
    await test.images.rootfs.remove('c1');
    await test.images.rootfs.remove('c1');
    expect(existsSync(mounted)).toBe(false);
    expect(readdirSync(join(test.root, 'containers'))).toEqual([]);
  });

  it.each([0, 1, 2])('are read-only when asked to be, with %i layers', async count => {
    const layers = [];
    for (let i = 0; i < count; i++) layers.push(layerOf(await makeTar([{ name: `f${i}`, content: 'x' }])));
    const image = makeImage(layers);
    await test.images.import(await layoutOf(image));
    await test.images.rootfs.prepare('c1', image.config.digest, { readonly: true });
    const mounted = await test.images.rootfs.mount('c1');
    expect(readdirSync(mounted)).toHaveLength(count);
    expect(() => writeFileSync(join(mounted, 'new'), '')).toThrow(/EROFS/);
    expect(existsSync(join(test.root, 'containers/c1'))).toBe(false);
  });

  it('of an image without layers are empty and writable', async () => {
    const image = makeImage([]);
    await test.images.import(await layoutOf(image));
    await test.images.rootfs.prepare('c1', image.config.digest, { readonly: false });
    writeFileSync(join(await test.images.rootfs.mount('c1'), 'x'), '');
  });

  it('have the owner and mode that the image gives its root', async () => {
    const image = makeImage([
      layerOf(await makeTar([{ name: './', type: 'directory', mode: 0o711, uid: 12 }])),
      layerOf(await makeTar([{ name: 'x', content: '' }])),
    ]);
    await test.images.import(await layoutOf(image));
    await test.images.rootfs.prepare('c1', image.config.digest, { readonly: false });
    const root = statSync(await test.images.rootfs.mount('c1'));
    expect([root.mode & 0o777, root.uid]).toEqual([0o711, 12]);
  });

  it.each(['state/containers/c1-layers', 'root/containers/c1/layers'])(
    'take away the layers that a killed daemon left mounted in %s, and keep them',
    async place => {
      const image = await simple('kept');
      await test.images.import(await layoutOf(image));
      await test.images.rootfs.prepare('c1', image.config.digest, { readonly: false });
      const target = join(test.directory, place);
      await mkdir(target, { recursive: true });
      bindMount({ source: join(test.root, 'layers'), target, flags: ['bind'] });
      await test.images.rootfs.remove('c1');
      expect(existsSync(target)).toBe(false);
      expect(readFileSync(join(test.root, 'layers/1/etc/text'), 'utf8')).toBe('kept');
    },
  );

  it('need an image that is there, and to be prepared', async () => {
    await expect(
      test.images.rootfs.prepare('c1', `sha256:${'0'.repeat(64)}`, { readonly: false }),
    ).rejects.toMatchObject({ kind: 'notFound' });
    await expect(test.images.rootfs.mount('c1')).rejects.toMatchObject({ kind: 'notFound' });
  });
});

describe('the life of content', () => {
  it('shares layers between images and removes what nobody uses any more', async () => {
    const common = layerOf(await makeTar([{ name: 'common', content: 'c' }]));
    const own = async (text: string) => layerOf(await makeTar([{ name: text, content: text }]));
    const [a, b] = [makeImage([common, await own('a')]), makeImage([common, await own('b')])];
    await test.images.import(await layoutOf(a, 'a:1'));
    await test.images.import(await layoutOf(b, 'b:1'));
    expect(layerDirectories()).toHaveLength(3);
    await test.images.remove('a:1');
    await test.images.remove('a:1');
    expect(layerDirectories()).toHaveLength(2);
    expect(blobs()).toContain(common.digest.slice(7));
    expect(blobs()).not.toContain(a.config.digest.slice(7));
    await test.images.remove(b.config.digest);
    expect([layerDirectories(), blobs(), test.images.list()]).toEqual([[], [], []]);
  });

  it('keeps the layers of a removed image for a container, until that goes', async () => {
    const image = await simple('used');
    await test.images.import(await layoutOf(image));
    await test.images.rootfs.prepare('c1', image.config.digest, { readonly: false });
    const mounted = await test.images.rootfs.mount('c1');
    await test.images.remove('test:1');
    expect(test.images.list()).toEqual([]);
    expect(readFileSync(join(mounted, 'etc/text'), 'utf8')).toBe('used');
    await test.images.rootfs.unmount('c1');
    expect(readFileSync(join(await test.images.rootfs.mount('c1'), 'etc/text'), 'utf8')).toBe('used');
    await test.images.rootfs.remove('c1');
    expect(layerDirectories()).toEqual([]);
  });

  it('survives a restart, and sweeps what a kill left', async () => {
    const image = await simple('kept');
    await test.images.import(await layoutOf(image));
    await mkdir(join(test.root, 'layers/77/half'), { recursive: true });
    const images = await test.reopen();
    expect(await images.recover()).toMatchObject({
      layerDirectories: 1,
      incompleteImages: [],
      doubtedImages: [],
    });
    expect(layerDirectories()).toEqual(['1']);
    expect(images.resolve('test:1').id).toBe(image.config.digest);
  });

  it('keeps leftovers of pulls for a day, and prunes them when asked', async () => {
    await test.images.import(await layoutOf(await simple('kept')));
    const orphan = '9'.repeat(64);
    await writeFile(join(test.root, 'content/blobs/sha256', orphan), 'orphan');
    await writeFile(join(test.root, 'content/ingest', orphan), 'half');
    await test.images.recover();
    expect(blobs()).toContain(orphan);
    await test.images.prune();
    expect(blobs()).not.toContain(orphan);
    expect(readdirSync(join(test.root, 'content/ingest'))).toEqual([]);
    expect(test.images.list()).toHaveLength(1);
    await writeFile(join(test.root, 'content/blobs/sha256', orphan), 'orphan');
    execFileSync('touch', ['-d', '2 days ago', join(test.root, 'content/blobs/sha256', orphan)]);
    await test.images.recover();
    expect(blobs()).not.toContain(orphan);
  });

  it('doubts what was in flight when the machine went down', async () => {
    await test.images.import(await layoutOf(await simple('before'), 'before:1'));
    await test.reopen();
    const image = await simple('in flight');
    await test.images.import(await layoutOf(image));
    const damaged = join(test.root, 'content/blobs/sha256', image.layers[0]?.digest.slice(7) ?? '');
    // As if of another boot, since a moment after the first image.
    const { openStore } = await import('../../src/store/store.ts');
    const { openRecords } = await import('../../src/image/records.ts');
    await test.images.close();
    await writeFile(damaged, Buffer.alloc(statSync(damaged).size));
    const store = openStore(join(test.root, 'store'), () => {});
    const records = openRecords(store);
    const sinceMs = records.images.get(image.config.digest)?.createdAtMs ?? 0;
    await records.unflushed.put('writing', { bootId: 'another', sinceMs });
    await store.close();
    const images = await test.reopen();
    const report = await images.recover();
    expect(report.doubtedImages).toEqual([image.config.digest]);
    expect(report.doubtedBlobs).toEqual([image.layers[0]?.digest]);
    expect(images.list().map(({ repoTags }) => repoTags)).toEqual([['docker.io/library/before:1']]);
  });

  it('doubts an image whose blob is not there any more after the machine went down', async () => {
    const image = await simple('again');
    await test.images.import(await layoutOf(image));
    await test.images.close();
    const { openStore } = await import('../../src/store/store.ts');
    const { openRecords } = await import('../../src/image/records.ts');
    const store = openStore(join(test.root, 'store'), () => {});
    // In flight is what came later; of the image itself that is a blob alone.
    await openRecords(store).unflushed.put('writing', { bootId: 'another', sinceMs: Date.now() + 1000 });
    await store.close();
    rmSync(join(test.root, 'content/blobs/sha256', image.config.digest.slice(7)));
    const report = await (await test.reopen()).recover();
    expect(report.doubtedImages).toEqual([image.config.digest]);
    expect(test.images.list()).toEqual([]);
  });

  it('says that an import is in flight since before its image', async () => {
    const seen: unknown[] = [];
    const { openRecords } = await import('../../src/image/records.ts');
    const { unflushed, images: records } = openRecords(test.store);
    const watching = setInterval(() => seen.push(...unflushed.entries().map(([, note]) => note.sinceMs)), 1);
    const image = await simple('timed');
    await test.images.import(await layoutOf(image));
    clearInterval(watching);
    const createdAtMs = records.get(image.config.digest)?.createdAtMs ?? 0;
    expect(seen.length).toBeGreaterThan(0);
    for (const sinceMs of seen) expect(sinceMs).toBeLessThanOrEqual(createdAtMs);
  });

  it('removes the files of an image when its record has gone from the disk, and not before', async () => {
    const order: string[] = [];
    const other = await openTestImages({}, undefined, {
      async flushed() {
        order.push(`flushed with ${readdirSync(join(other.root, 'layers')).filter(isNumber).length} layers`);
      },
    });
    await other.images.import(await layoutOf(await simple('gone')));
    await other.images.remove('test:1');
    expect(order).toContain('flushed with 1 layers');
    expect(readdirSync(join(other.root, 'layers')).filter(isNumber)).toEqual([]);
    await other.remove();
  });

  it('names what is damaged: blobs, files of layers, missing blobs', async () => {
    const layers = [
      layerOf(await makeTar(filesLike('a', 500_000, 9))),
      layerOf(
        await makeTar([
          { name: 'b', content: 'b' },
          { name: 'l', type: 'symlink', linkname: 'b' },
        ]),
      ),
    ];
    const image = makeImage(layers);
    await test.images.import(await layoutOf(image));
    expect(await test.images.verify()).toEqual([]);
    const file = join(test.root, 'layers/1/a/d0/file-1');
    const content = await readFile(file);
    content[100] = (content[100] ?? 0) ^ 1;
    await writeFile(file, content);
    const second = layers[1]?.digest ?? '';
    await writeFile(join(test.root, 'content/blobs/sha256', second.slice(7)), 'rotten');
    const damage = await test.images.verify();
    expect(damage.map(({ kind, name }) => [kind, name])).toEqual([
      ['blob', second],
      ['layer', layers[0]?.diffId],
    ]);
    expect(damage[1]?.reason).toMatch(/a\/d0\/file-1 differs at byte 0/);
    expect(damage[0]?.images).toEqual([image.config.digest]);
    await rm(join(test.root, 'content/blobs/sha256', second.slice(7)));
    await writeFile(join(test.root, 'layers/1/surplus'), '');
    await writeFile(file, Buffer.from(content).fill((content[100] ?? 0) ^ 1, 100, 101));
    expect((await test.images.verify()).map(({ reason }) => reason)).toEqual([
      'it is missing',
      expect.stringMatching(/surplus is not in the archive/),
    ]);
  });

  it('names whiteouts, opaque marks, attributes and devices that are not as the archive has them', async () => {
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
    const layer = layerOf(
      await makeTar([
        { name: 'd/', type: 'directory' },
        { name: 'd/.wh..wh..opq', content: '' },
        { name: 'd/.wh.gone', content: '' },
        { name: '.wh.replaced', content: '' },
        { name: 'replaced/', type: 'directory' },
        { name: 'replaced/.wh..wh..opq', content: '' },
        { name: 'replaced/child/file', content: '' },
        { name: '.wh.both', content: '' },
        { name: 'both', content: '' },
        { name: 'was-directory/', type: 'directory' },
        { name: 'was-directory/.wh.child', content: '' },
        { name: 'was-directory', content: '' },
        { name: 'to-d', type: 'symlink', linkname: 'd' },
        { name: 'to-d/.wh.through', content: '' },
        {
          name: 'ping',
          content: '',
          pax: {
            'SCHILY.xattr.security.capability': capability.toString('latin1'),
            'SCHILY.xattr.user.note': 'hi',
            'SCHILY.xattr.trusted.note': 'hi',
          },
        },
        { name: 'tty', type: 'character-device', devmajor: 5, devminor: 1 },
      ]),
    );
    await test.images.import(await layoutOf(makeImage([layer])));
    const at = (name: string) => join(test.root, 'layers/1', name);
    const whiteout = (name: string) => mknod(at(name), fileTypes.char, 0, 0);
    const opaque = (name: string, value: string) =>
      setXattr(at(name), 'trusted.overlay.opaque', Buffer.from(value));
    const reason = async () => (await test.images.verify()).map(damage => damage.reason);
    expect(await reason()).toEqual([]);
    const damages: [harm: () => void, mend: () => void, said: RegExp][] = [
      [() => rmSync(at('d/gone')), () => whiteout('d/gone'), /d\/gone is missing: a whiteout/],
      [
        () => {
          rmSync(at('d/gone'));
          writeFileSync(at('d/gone'), '');
        },
        () => {
          rmSync(at('d/gone'));
          whiteout('d/gone');
        },
        /d\/gone is not a whiteout/,
      ],
      [() => opaque('d', 'n'), () => opaque('d', 'y'), / d is not opaque/],
      [
        () => {
          renameSync(at('replaced'), at('aside'));
          writeFileSync(at('replaced'), '');
        },
        () => {
          rmSync(at('replaced'));
          renameSync(at('aside'), at('replaced'));
        },
        /replaced is of another type/,
      ],
      [() => opaque('replaced', 'n'), () => opaque('replaced', 'y'), /replaced is not opaque/],
      [() => whiteout('surplus'), () => rmSync(at('surplus')), /surplus is not in the archive/],
      [
        () => setXattr(at('ping'), 'user.note', Buffer.from('ho')),
        () => setXattr(at('ping'), 'user.note', Buffer.from('hi')),
        /ping has not the attribute user\.note/,
      ],
      [
        () => chownSync(at('ping'), 0, 0), // drops the capability
        () => setXattr(at('ping'), 'security.capability', capability),
        /ping has not the attribute security\.capability/,
      ],
      [
        () => {
          rmSync(at('tty'));
          mknod(at('tty'), fileTypes.char | 0o644, 5, 2);
        },
        () => {
          rmSync(at('tty'));
          mknod(at('tty'), fileTypes.char | 0o644, 5, 1);
        },
        /tty is device 5:2, not 5:1/,
      ],
    ];
    for (const [harm, mend, said] of damages) {
      harm();
      expect(await reason()).toEqual([expect.stringMatching(said)]);
      mend();
      expect(await reason()).toEqual([]);
    }
  });

  it('exports what skopeo and another store can read', async () => {
    const image = await simple('exported');
    await test.images.import(await layoutOf(image));
    const file = join(test.directory, 'export.tar');
    await test.images.export(['test:1'], file);
    const inspected = JSON.parse(
      execFileSync('skopeo', ['inspect', `oci-archive:${file}`], { encoding: 'utf8' }),
    );
    expect(inspected.Digest).toBe(image.manifest.digest);
    const other = await openTestImages();
    try {
      const [imported] = await other.images.import(file);
      expect(imported?.id).toBe(image.config.digest);
      expect(other.images.status('test:1')).toBeDefined();
    } finally {
      await other.remove();
    }
    await expect(test.images.export(['absent'], file)).rejects.toMatchObject({ kind: 'notFound' });
  });
});
