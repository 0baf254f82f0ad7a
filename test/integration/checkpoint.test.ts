// CheckpointContainer, and containers that go on from a checkpoint. Where criu is installed and works on this kernel
// the whole way is gone with it; everywhere, with a runtime that plays criu's part.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/cri-client.ts';
import { standInCalls, workingCriu, writeStandIns } from '../support/criu.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

const runtimes = 'plugins."io.containerd.cri.v1.runtime".containerd.runtimes';
/** Counts in a variable, which only the process knows, and says how far it has come. */
const counting =
  'echo began >> /began; i=0; while :; do i=$((i+1)); echo $i; echo $i > /count; sleep 0.1; done';

let node: TestNode;
let standIns: string;
let pod: string;
const criu = await workingCriu();

beforeAll(async () => {
  node = await startNode({
    config: ({ directory }) => {
      standIns = join(directory, 'stand-ins');
      return `[${runtimes}.stand-in.options]
        BinaryName = "${standIns}/runc-without-criu"
        CriuPath = "${standIns}"
      [${runtimes}.without.options]
        CriuPath = "${directory}/nowhere"
      [${runtimes}.old.options]
        CriuPath = "${directory}/old/criu"
      [${runtimes}.real.options]
        CriuPath = "${criu ?? '/nowhere'}"`;
    },
  });
  await writeStandIns(standIns);
  await mkdir(join(node.directory, 'old'));
  await writeFile(join(node.directory, 'old', 'criu'), '#!/bin/sh\necho Version: 3.15\n', { mode: 0o755 });
});
afterAll(() => node.destroy());
beforeEach(() => node.removeAll());

const untilCounted = (id: string, to: number) =>
  until(`${id} counts to ${to}`, async () => {
    const count = Number((await node.exec(id, 'cat /count 2>/dev/null')) || 0);
    return count >= to ? count : undefined;
  });

async function checkpoint(containerId: string): Promise<string> {
  const location = join(node.directory, `${containerId.slice(0, 8)}.tar`);
  await node.cri.CheckpointContainer({ containerId, location });
  return location;
}

const member = async (archive: string, name: string) => (await execa('tar', ['-xOf', archive, name])).stdout;

describe.each(criu === undefined ? ['stand-in'] : ['stand-in', 'real'])('with criu (%s)', handler => {
  beforeEach(async () => {
    pod = await node.runPod({}, handler);
  });

  it('a checkpoint is an archive for root alone, and the container goes on', async () => {
    const id = await node.runContainer(pod, counting, { labels: { a: 'b' } });
    await untilCounted(id, 2);
    await node.exec(id, 'rm -r /etc/group; echo kept > /kept; ln -s /kept /link');
    const archive = await checkpoint(id);
    expect(statSync(archive).mode & 0o777).toBe(0o600);
    const names = (await execa('tar', ['-tf', archive])).stdout.split('\n');
    expect(names).toEqual(
      expect.arrayContaining([
        'config.dump',
        'spec.dump',
        'status.dump',
        'status',
        'dump.log',
        'container.log',
        'rootfs-diff.tar',
        'checkpoint/pages-1.img',
      ]),
    );
    expect(JSON.parse(await member(archive, 'config.dump'))).toMatchObject({
      id,
      rootfsImageName: 'docker.io/test/busybox:latest',
      runtime: handler,
    });
    expect(JSON.parse(await member(archive, 'status.dump'))).toMatchObject({
      id,
      state: 1,
      labels: { a: 'b' },
    });
    expect(JSON.parse(await member(archive, 'spec.dump')).process.args).toContain(counting);
    await rm(join(node.directory, 'diff.tar'), { force: true });
    await execa('tar', ['-xf', archive, '-C', node.directory, 'rootfs-diff.tar']);
    const changed = (await execa('tar', ['-tf', join(node.directory, 'rootfs-diff.tar')])).stdout.split('\n');
    expect(changed).toEqual(expect.arrayContaining(['kept', 'link', 'etc/.wh.group', 'count']));

    const now = await untilCounted(id, 3);
    await untilCounted(id, now + 2);
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    expect(existsSync(join(node.root, 'containers', id, 'checkpoint-out'))).toBe(false);
  });

  it('a container restored from the archive has the files, the log and the place of before', async () => {
    const id = await node.runContainer(pod, counting);
    await untilCounted(id, 5);
    await node.exec(id, 'echo kept > /kept; chown 7:8 /kept; rm /etc/group');
    const archive = await checkpoint(id);
    const before = Number(
      readFileSync((await node.status(id)).logPath, 'utf8')
        .split(' ')
        .at(-1),
    );
    await node.removeAll();

    const other = await node.runPod({}, handler);
    const restored = await node.createContainer(other, counting, { image: { image: archive } });
    await node.cri.StartContainer({ containerId: restored });
    expect((await node.status(restored)).state).toBe('CONTAINER_RUNNING');
    expect(await node.exec(restored, 'cat /kept; stat -c %u:%g /kept; test -e /etc/group || echo gone')).toBe(
      'kept\n7:8\ngone',
    );
    const log = await until('the restored container goes on writing', async () => {
      const lines = await node.logLines(restored);
      return lines.length > before + 3 ? lines : undefined;
    });
    expect(log.slice(0, 3)).toEqual(['1', '2', '3']);
    expect(existsSync(join(node.root, 'containers', restored, 'checkpoint'))).toBe(false);
    if (handler === 'real') {
      expect(await node.exec(restored, 'cat /began')).toBe('began');
      expect(new Set(log).size).toBe(log.length); // it did not begin to count again
    } else expect(readFileSync(join(standIns, 'restored'), 'utf8')).toBe('pages\n');

    await node.cri.StopContainer({ containerId: restored, timeout: 0 });
    expect(await node.untilExited(restored)).toMatchObject({ exitCode: 137 });
  });

  it('an image made of a checkpoint is restored, too', async () => {
    const id = await node.runContainer(pod, counting);
    await untilCounted(id, 2);
    const archive = await checkpoint(id);
    await importAsImage(archive, 'test/checkpoint:1');
    const restored = await node.createContainer(pod, counting, { image: { image: 'test/checkpoint:1' } });
    expect((await node.status(restored)).imageId).toBe((await node.status(id)).imageId);
    // In the pod's one pid namespace its processes need the numbers that they had.
    await node.cri.RemoveContainer({ containerId: id });
    await node.cri.StartContainer({ containerId: restored });
    await untilCounted(restored, 2);
    await node.cri.RemoveContainer({ containerId: restored });
    expect(await readdir(join(node.root, 'containers'))).toEqual([]);
  });
});

/** As `buildah from scratch; buildah add` and an annotation make it. */
async function importAsImage(archive: string, name: string): Promise<void> {
  const layout = join(node.directory, 'checkpoint-layout');
  const blobs = join(layout, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const add = async (bytes: Buffer | string, mediaType: string) => {
    const { createHash } = await import('node:crypto');
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: Buffer.byteLength(bytes) };
  };
  const type = 'application/vnd.oci.image';
  const layer = await add(readFileSync(archive), `${type}.layer.v1.tar`);
  const config = await add(
    JSON.stringify({
      os: 'linux',
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      config: {},
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    }),
    `${type}.config.v1+json`,
  );
  const manifest = await add(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${type}.manifest.v1+json`,
      config,
      layers: [layer],
      annotations: { 'org.criu.checkpoint.container.name': 'counter' },
    }),
    `${type}.manifest.v1+json`,
  );
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(
    join(layout, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [{ ...manifest, annotations: { 'org.opencontainers.image.ref.name': name } }],
    }),
  );
  await node.stop();
  await execa(new URL('../../bin/cri-ts', import.meta.url).pathname, [
    ...['image', 'import', '--root', node.root, '--state', node.state, layout],
  ]);
  await node.start();
}

describe('a checkpoint', () => {
  beforeEach(async () => {
    pod = await node.runPod({}, 'stand-in');
    await rm(join(standIns, 'fail'), { force: true });
    await rm(join(standIns, 'hang'), { force: true });
  });

  it('is asked of the runtime on the held container, with criu to be found', async () => {
    const id = await node.runContainer(pod, counting);
    await checkpoint(id);
    const calls = (await standInCalls(standIns)).filter(call => call.endsWith(id));
    const verbs = calls.map(call => / (pause|checkpoint|resume) /.exec(call)?.[1]).filter(Boolean);
    expect(verbs).toEqual(['pause', 'checkpoint', 'resume']);
    const call = calls.find(one => one.includes(' checkpoint '));
    expect(call).toMatch(/^1 .* --image-path \S+\/checkpoint --work-path \S+ --leave-running [0-9a-f]{64}$/);
  });

  it('that fails says why in criu’s words, leaves nothing, and the container goes on', async () => {
    const id = await node.runContainer(pod, counting);
    await writeFile(join(standIns, 'fail'), '');
    const location = join(node.directory, 'failed.tar');
    const { details } = await failureOf(node.cri.CheckpointContainer({ containerId: id, location }));
    expect(details).toContain('cannot dump a frog');
    expect(existsSync(location)).toBe(false);
    await untilCounted(id, (await untilCounted(id, 1)) + 2);
  });

  it('that takes longer than its timeout is given up, and the container goes on', async () => {
    const id = await node.runContainer(pod, counting);
    await writeFile(join(standIns, 'hang'), '');
    const location = join(node.directory, 'late.tar');
    const call = node.cri.CheckpointContainer({ containerId: id, location, timeout: 1 });
    expect((await failureOf(call)).code).toBe(grpc.DEADLINE_EXCEEDED);
    await untilCounted(id, (await untilCounted(id, 1)) + 2);
  });

  it('during which the daemon is killed does not hold the container for ever', async () => {
    const id = await node.runContainer(pod, counting);
    await untilCounted(id, 1);
    await writeFile(join(standIns, 'hang'), '');
    const location = join(node.directory, 'killed.tar');
    const call = failureOf(node.cri.CheckpointContainer({ containerId: id, location }));
    await until('criu is at work', async () =>
      (await standInCalls(standIns)).some(one => one.includes(' checkpoint ') && one.endsWith(id))
        ? true
        : undefined,
    );
    await node.kill();
    await call;
    await node.start();
    await untilCounted(id, (await untilCounted(id, 1)) + 2);
  });

  it('is refused for a container that does not run, and for a place that cannot be', async () => {
    const created = await node.createContainer(pod, 'true');
    const location = join(node.directory, 'x.tar');
    const refused = await failureOf(node.cri.CheckpointContainer({ containerId: created, location }));
    expect(refused).toMatchObject({ code: grpc.FAILED_PRECONDITION });
    expect(refused.details).toContain('not running');
    const id = await node.runContainer(pod, counting);
    for (const [where, why] of [
      ['', 'names no location'],
      ['relative.tar', 'not an absolute path'],
      ['/no/such/directory/x.tar', 'ENOENT'],
    ] as const) {
      const { code, details } = await failureOf(
        node.cri.CheckpointContainer({ containerId: id, location: where }),
      );
      expect(code).toBe(grpc.INVALID_ARGUMENT);
      expect(details).toContain(why);
    }
  });

  it.each([
    ['without', 'criu binary not found', 'apt-get install criu'],
    ['old', '3.16 or newer is needed', 'is 3.15'],
  ])('is refused with criu %s, saying what is needed', async (handler, ...words) => {
    const other = await node.runPod({}, handler);
    const id = await node.runContainer(other, counting);
    const location = join(node.directory, 'x.tar');
    const { code, details } = await failureOf(node.cri.CheckpointContainer({ containerId: id, location }));
    expect(code).toBe(grpc.FAILED_PRECONDITION);
    for (const word of words) expect(details).toContain(word);
  });
});

describe('what is no checkpoint', () => {
  beforeEach(async () => {
    pod = await node.runPod({}, 'stand-in');
  });

  const createFrom = (image: string) => failureOf(node.createContainer(pod, 'true', { image: { image } }));

  async function archiveOf(name: string, make: (directory: string) => Promise<unknown>): Promise<string> {
    const directory = join(node.directory, name);
    await mkdir(join(directory, 'checkpoint'), { recursive: true });
    await writeFile(
      join(directory, 'config.dump'),
      JSON.stringify({ rootfsImageName: 'test/busybox:latest' }),
    );
    await make(directory);
    await execa('tar', ['-cf', `${directory}.tar`, '-C', directory, '.']);
    return `${directory}.tar`;
  }

  it('is refused by what it lacks', async () => {
    const empty = await archiveOf('empty', async directory => rm(join(directory, 'config.dump')));
    expect((await createFrom(empty)).details).toContain('it has no config.dump');
    const bad = await archiveOf('bad', directory => writeFile(join(directory, 'config.dump'), '['));
    expect((await createFrom(bad)).details).toContain('config.dump of');
    const without = await archiveOf('without', directory =>
      rm(join(directory, 'checkpoint'), { recursive: true }),
    );
    expect((await createFrom(without)).details).toContain('no directory checkpoint');
  });

  it('is refused when links in it lead out, and nothing is left of it', async () => {
    const before = await readdir(join(node.root, 'containers'));
    const links = await archiveOf('links', directory =>
      execa('ln', ['-s', '/etc/shadow', join(directory, 'rootfs-diff.tar')]),
    );
    expect((await createFrom(links)).details).toContain('rootfs-diff.tar of the checkpoint is no file');
    const images = await archiveOf('images', directory =>
      execa('ln', ['-s', '/etc/shadow', join(directory, 'checkpoint', 'pages-1.img')]),
    );
    expect((await createFrom(images)).details).toContain('pages-1.img of the checkpoint is no file');
    expect(await readdir(join(node.root, 'containers'))).toEqual(before);
  });

  it('is refused when the request lacks a mount that it has', async () => {
    const spec = {
      mounts: [
        { type: 'bind', destination: '/data' },
        { type: 'proc', destination: '/proc' },
      ],
    };
    const archive = await archiveOf('mounts', directory =>
      writeFile(join(directory, 'spec.dump'), JSON.stringify(spec)),
    );
    const { code, details } = await createFrom(archive);
    expect(code).toBe(grpc.INVALID_ARGUMENT);
    expect(details).toContain('mounts on /data, the request has none there');
  });
});
