// What crictl's image commands ask (pull, images, inspecti, rmi, imagefsinfo, pull --creds), asked of Debian's containerd and
// of the daemon, of the same registries: the answers are the same but for what is listed here as told otherwise.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Image as CriImage } from '../../src/cri-api/types.ts';
import { basicAuthorization } from '../../src/image/registry/transport.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { type CriClient, failureOf } from '../support/cri-client.ts';
import { type Image, layerOf, makeImage, makeIndex, makeTar } from '../support/image/make-image.ts';
import { pushImage, pushManifest, startRegistry, type TestRegistry } from '../support/image/registry.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let scratch: string;
let open: TestRegistry;
let closed: TestRegistry;
let containerd: Containerd;
let node: TestNode;
let image: Image;
let other: Image;
let index: { digest: string };

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'cri-ts-beside-'));
  const htpasswd = join(scratch, 'htpasswd');
  // user, pass:word
  writeFileSync(htpasswd, 'user:$2y$05$6DTjYBC59NyrN9MaMaLnv.f8fbFpfx7VBCfkqyOkyHd/pAN0zpfk6\n');
  open = await startRegistry();
  closed = await startRegistry({ htpasswd });
  const shared = layerOf(await makeTar([{ name: 'shared', content: randomBytes(50_000).toString('hex') }]));
  image = makeImage([shared], {
    config: { User: '1000:2000', Env: ['A=b'], Cmd: ['/shared'], Labels: { a: 'b' } },
  });
  other = makeImage([shared, layerOf(await makeTar([{ name: 'more', content: 'more' }]))], {
    config: { User: 'web' },
  });
  const made = makeIndex([{ blob: image.manifest, platform: { os: 'linux', architecture: 'amd64' } }]);
  index = made;
  await pushImage(open, 'team/app', 'v1', image);
  await pushImage(open, 'team/app', 'v2', image);
  await pushImage(open, 'app', 'latest', other);
  await pushManifest(open, 'team/app', 'many', made);
  await pushImage(closed, 'secret', 'latest', other, {
    authorization: basicAuthorization('user', 'pass:word'),
  });
  [containerd, node] = await Promise.all([startContainerd(), startNode({ busybox: false })]);
});
afterAll(async () => {
  await node.destroy();
  await containerd.stop();
  await open.stop();
  await closed.stop();
  rmSync(scratch, { recursive: true });
});

/** Asks both the same; returns containerd's answer and the daemon's. */
async function both<T>(ask: (cri: CriClient) => Promise<T>): Promise<{ theirs: T; ours: T }> {
  const [theirs, ours] = await Promise.all([ask(containerd.cri), ask(node.cri)]);
  return { theirs, ours };
}

/** Asks both the same and asserts that both answer the same; returns the answer. */
async function same<T>(ask: (cri: CriClient) => Promise<T>): Promise<T> {
  const { theirs, ours } = await both(ask);
  expect(ours).toEqual(theirs);
  return ours;
}

const pull = (name: string, auth?: object) => (cri: CriClient) =>
  cri.PullImage({ image: { image: name }, ...(auth && { auth }) });
const told = (one: CriImage) => ({
  id: one.id,
  repoTags: [...one.repoTags].sort(),
  repoDigests: [...one.repoDigests].sort(),
  uid: one.uid,
  username: one.username,
  spec: one.spec?.image,
  pinned: one.pinned,
});
const byId = (a: CriImage, b: CriImage) => a.id.localeCompare(b.id);
const list = (filter?: object) => async (cri: CriClient) => {
  const { images } = await cri.ListImages(filter && { filter });
  return images.sort(byId).map(told);
};
/** What `crictl rmi` does: it asks for the image, and removes it by the id it is told. */
const rmi = (name: string) => async (cri: CriClient) => {
  const { image: found } = await cri.ImageStatus({ image: { image: name } });
  if (!found) return 'no such image';
  await cri.RemoveImage({ image: { image: found.id } });
  return told(found);
};

describe('as on containerd', () => {
  const app = () => `${open.address}/team/app`;

  it('pull answers with the config digest, by tag, again, by another tag, by digest and out of an index', async () => {
    const names = ['v1', 'v1', 'v2', 'many'].map(tag => `${app()}:${tag}`);
    for (const name of [...names, `${app()}@${image.manifest.digest}`]) {
      expect(await same(pull(name))).toEqual({ imageRef: image.config.digest });
    }
    expect(await same(pull(`${open.address}/app`))).toEqual({ imageRef: other.config.digest });
  });

  it('images lists each once, with its tags, its digests and its user', async () => {
    const listed = await same(list());
    expect(listed).toHaveLength(2);
    expect(listed.find(({ id }) => id === image.config.digest)).toMatchObject({
      repoTags: [`${app()}:many`, `${app()}:v1`, `${app()}:v2`],
      repoDigests: [`${app()}@${image.manifest.digest}`, `${app()}@${index.digest}`].sort(),
      uid: { value: '1000' },
    });
  });

  it('images without a filter lists all; with one, which containerd 1.6 passes over, what it names', async () => {
    expect(await same(list({}))).toHaveLength(2);
    const digest = image.config.digest;
    for (const name of [
      `${app()}:v2`,
      digest,
      digest.slice(7),
      digest.slice(7, 20),
      `${app()}@${index.digest}`,
    ]) {
      expect(await list({ image: { image: name } })(node.cri), name).toMatchObject([{ id: digest }]);
    }
    expect(await list({ image: { image: `${app()}:none` } })(node.cri)).toEqual([]);
  });

  it('inspecti finds an image by every name and by the beginning of its id, and says nothing of what is not there', async () => {
    const digest = image.config.digest;
    const status = (name: string) => async (cri: CriClient) => {
      const { image: found } = await cri.ImageStatus({ image: { image: name }, verbose: true });
      return found && told(found);
    };
    for (const name of [`${app()}:v1`, `${app()}@${image.manifest.digest}`, digest, digest.slice(7, 20)]) {
      expect(await same(status(name)), name).toMatchObject({ id: digest });
    }
    for (const name of [`${app()}:none`, 'busybox', 'f'.repeat(64)]) {
      expect((await same(status(name))) ?? null, name).toBeNull();
    }
  });

  it('inspecti tells the chain and the configuration', async () => {
    const info = await same(async cri => {
      const answer = await cri.ImageStatus({ image: { image: `${app()}:v1` }, verbose: true });
      const { chainID, imageSpec } = JSON.parse(answer.info.info ?? '{}');
      return { chainID, imageSpec };
    });
    expect(info).toMatchObject({
      chainID: expect.stringMatching(/^sha256:/),
      imageSpec: { config: { User: '1000:2000', Labels: { a: 'b' } } },
    });
  });

  it('imagefsinfo names one file system, by a directory that is there, and what is used in it', async () => {
    await until('both have counted', async () => {
      const { theirs, ours } = await both(cri => cri.ImageFsInfo());
      const counted = [theirs, ours].every(
        ({ imageFilesystems: [only] }) => Number(only?.usedBytes?.value) > 0,
      );
      return counted || undefined;
    });
    await same(async cri => {
      const { imageFilesystems } = await cri.ImageFsInfo();
      return imageFilesystems.map(({ timestamp, fsId, usedBytes, inodesUsed }) => ({
        isDirectory: statSync(fsId?.mountpoint ?? '').isDirectory(),
        isNow: Math.abs(Number(timestamp) / 1e6 - Date.now()) < 600_000,
        uses: [usedBytes, inodesUsed].map(used => Number(used?.value) > 0),
      }));
    });
  });

  it('pull --creds is let in with the right ones, plain or encoded, and nobody else is', async () => {
    const name = `${closed.address}/secret:latest`;
    await same(rmi(`${open.address}/app`));
    for (const auth of [undefined, { username: 'user', password: 'hunter2' }]) {
      const { theirs, ours } = await both(cri => failureOf(pull(name, auth)(cri)));
      for (const { details } of [theirs, ours]) expect(details).toContain(name);
      for (const { details } of [theirs, ours]) expect(details).not.toContain('hunter2');
    }
    const auth = Buffer.from('user:pass:word').toString('base64');
    for (const right of [{ username: 'user', password: 'pass:word' }, { auth }]) {
      expect(await same(pull(name, right))).toEqual({ imageRef: other.config.digest });
      await same(rmi(name));
    }
  });

  it('rmi by one tag takes the image with all its names, and what it shares with another stays', async () => {
    await same(pull(`${open.address}/app`));
    expect(await same(rmi(`${app()}:v2`))).toMatchObject({ id: image.config.digest });
    expect(await same(list())).toMatchObject([{ id: other.config.digest }]);
    expect(await same(rmi(`${app()}:v2`))).toBe('no such image');
    await same(cri => cri.RemoveImage({ image: { image: `${app()}:v2` } }));
    await same(rmi(other.config.digest.slice(7, 20)));
    expect(await same(list())).toEqual([]);
  });

  it('pull of what cannot be had fails, and the name is in the words', async () => {
    for (const name of [`${open.address}/team/app:none`, `${open.address}/nothing`, '127.0.0.1:1/app']) {
      const { theirs, ours } = await both(cri => failureOf(pull(name)(cri)));
      for (const { details } of [theirs, ours]) expect(details, name).toContain(name);
    }
    const notFound = await both(cri => failureOf(pull(`${open.address}/team/app:none`)(cri)));
    expect(notFound.ours.code).toBe(notFound.theirs.code);
    expect(await failureOf(pull('a/UPPER')(node.cri))).toMatchObject({ code: 3 }); // InvalidArgument, where theirs is Unknown
  });
});
