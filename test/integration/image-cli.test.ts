// `cri-ts image` from its executable: on the store alone, and through a running daemon; and the ImageService of
// that daemon as a CRI client sees it.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectCri } from '../support/cri-client.ts';
import { startLiar } from '../support/image/liar.ts';
import {
  filesLike,
  type Image,
  layerOf,
  makeImage,
  makeTar,
  writeLayout,
} from '../support/image/make-image.ts';
import { pushImage, startRegistry } from '../support/image/registry.ts';
import { until } from '../support/node.ts';

const criTs = fileURLToPath(new URL('../../bin/cri-ts', import.meta.url));

let directory: string;
let image: Image;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cri-ts-cli-'));
  const cni = join(directory, 'net.d');
  mkdirSync(cni);
  writeFileSync(
    join(directory, 'config.toml'),
    `version = 2
root = "${join(directory, 'root')}"
state = "${join(directory, 'state')}"
[grpc]
  address = "${join(directory, 'cri.sock')}"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "${cni}"
`,
  );
  image = makeImage([layerOf(await makeTar(filesLike('a', 300_000, 1)))]);
  await writeLayout(join(directory, 'layout'), [{ image, name: 'app:1' }]);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

function run(...args: string[]): Promise<Outcome> {
  return new Promise(resolve => {
    execFile(
      criTs,
      ['image', ...args, '--config', join(directory, 'config.toml')],
      (error, stdout, stderr) => {
        resolve({ code: typeof error?.code === 'number' ? error.code : error ? -1 : 0, stdout, stderr });
      },
    );
  });
}

async function startDaemon(): Promise<{ child: ChildProcess; stop(): Promise<void> }> {
  const child = spawn(criTs, ['serve', '--config', join(directory, 'config.toml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const cri = connectCri(join(directory, 'cri.sock'));
  await until('the daemon serves', () => {
    if (child.exitCode !== null) throw new Error(`the daemon did not start: ${log}`);
    return cri.Version({}).catch(() => undefined);
  });
  cri.close();
  return {
    child,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

async function everyVerb(): Promise<void> {
  const file = join(directory, 'export.tar');
  expect(await run('import', join(directory, 'layout'))).toMatchObject({
    code: 0,
    stdout: `docker.io/library/app:1 ${image.config.digest}\n`,
  });
  expect(JSON.parse((await run('list', '--json')).stdout)).toMatchObject([
    { id: image.config.digest, repoTags: ['docker.io/library/app:1'] },
  ]);
  const { stdout } = await run('list');
  expect(stdout).toMatch(/^IMAGE +ID +SIZE\n/);
  expect(stdout).toContain(`docker.io/library/app:1  ${image.config.digest.slice(7, 20)}`);
  expect(JSON.parse((await run('inspect', 'app:1')).stdout)).toMatchObject({
    id: image.config.digest,
    document: { os: 'linux' },
  });
  expect(await run('export', file, 'app:1')).toMatchObject({ code: 0, stdout: `${file}\n` });
  expect(await run('verify')).toMatchObject({ code: 0, stdout: 'everything is as it was stored\n' });
  expect(await run('remove', 'app:1')).toMatchObject({ code: 0 });
  expect(JSON.parse((await run('ls', '--json')).stdout)).toEqual([]);
  expect(await run('import', file, '--name', 'other:2', '-q')).toMatchObject({
    code: 0,
    stdout: `${image.config.digest}\n`,
  });
  expect((await run('prune')).stdout).toMatch(/^removed 0 blobs/);
  const blob = join(directory, 'root/content/blobs/sha256', image.layers[0]?.digest.slice(7) ?? '');
  writeFileSync(blob, 'rotten');
  const verified = await run('verify');
  expect(verified.code).toBe(1);
  expect(verified.stdout).toContain(`blob ${image.layers[0]?.digest}: its content hashes to`);
  expect(await run('inspect', 'absent')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('image "absent" is not on this node'),
  });
  expect(await run('import', '/nowhere')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('/nowhere does not exist'),
  });
}

async function pulls(): Promise<void> {
  const registry = await startRegistry();
  try {
    await pushImage(registry, 'app', 'latest', image);
    expect(await run('pull', `${registry.address}/app`)).toMatchObject({
      code: 0,
      stdout: `${image.config.digest}\n`,
      stderr: '',
    });
    expect(await run('pull', `${registry.address}/absent`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('absent'),
    });
  } finally {
    await registry.stop();
  }
}

describe('cri-ts image on the store alone', () => {
  it('does all its verbs', everyVerb);
  it('pulls', pulls);

  it('pulls with the credentials of --creds and --creds-file, and not without', async () => {
    const liar = await startLiar(({ headers }, response) => {
      if (headers.authorization === `Basic ${Buffer.from('joe:s3:cret').toString('base64')}`) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
      return true;
    });
    try {
      liar.addImage(image, 'latest');
      const file = join(directory, 'creds');
      writeFileSync(file, 'joe:s3:cret\n');
      const name = `${liar.address}/app`;
      expect(await run('pull', name)).toMatchObject({ code: 1, stderr: expect.stringContaining(name) });
      expect(await run('pull', '--creds', 'joe:wrong', name)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/did not accept the credentials/),
      });
      for (const option of [
        ['--creds', 'joe:s3:cret'],
        ['--creds-file', file],
      ]) {
        expect(await run('pull', ...option, name)).toMatchObject({
          code: 0,
          stdout: `${image.config.digest}\n`,
        });
        expect(await run('remove', name)).toMatchObject({ code: 0 });
      }
    } finally {
      await liar.close();
    }
  });

  it('shows on a terminal how far each layer is, and how fast', async () => {
    const layer = image.layers[0];
    if (!layer) throw new Error('the image has no layer');
    let shown = '';
    const liar = await startLiar(async (_, response, path) => {
      if (!path.endsWith(layer.digest)) return false;
      response.writeHead(200, { 'content-length': layer.size });
      response.write(layer.bytes.subarray(0, 100_000));
      await until('the speed is shown', () => / \d+\.\d kB\/s/.test(shown) || undefined);
      response.end(layer.bytes.subarray(100_000));
      return true;
    });
    liar.addImage(image, 'latest');
    try {
      const command = `${criTs} image pull ${liar.address}/app --config ${join(directory, 'config.toml')}`;
      const terminal = execFile('script', ['-qec', command, '/dev/null']);
      terminal.stdout?.on('data', (text: string) => {
        shown += text;
      });
      await once(terminal, 'close');
      const short = layer.digest.slice(7, 19);
      const total = `${(layer.size / 1000).toFixed(1)} kB`;
      const number = '\\d+\\.\\d kB';
      expect(shown).toMatch(new RegExp(`${short}  \\[=+ +\\]  downloading  ${number}/${total}  ${number}/s`));
      expect(shown).toMatch(new RegExp(`${short}  \\[=+\\]  done +${total}/${total}`));
      expect(shown.trimEnd().endsWith(image.config.digest)).toBe(true);
    } finally {
      await liar.close();
    }
  });
});

describe('cri-ts image through the daemon', () => {
  let daemon: Awaited<ReturnType<typeof startDaemon>>;
  beforeEach(async () => {
    daemon = await startDaemon();
  });
  afterEach(() => daemon.stop());

  it('does all its verbs', everyVerb);
  it('pulls', pulls);

  it('leaves a daemon alone that serves another root than the one that is asked for', async () => {
    const other = ['--root', join(directory, 'other'), '--state', join(directory, 'other-state')];
    expect(await run('import', ...other, join(directory, 'layout'))).toMatchObject({ code: 0 });
    expect((await run('list', ...other)).stdout).toContain('app');
    expect((await run('list')).stdout).not.toContain('app');
    const same = ['--root', `${join(directory, 'root')}/`];
    expect(await run('import', ...same, join(directory, 'layout'))).toMatchObject({ code: 0 });
    expect((await run('list')).stdout).toContain('app');
  });

  it('answers CRI clients as containerd does', async () => {
    const cri = connectCri(join(directory, 'cri.sock'));
    const registry = await startRegistry();
    const liar = await startLiar(({ headers }, response) => {
      if (headers.authorization === `Basic ${Buffer.from('joe:s3cret').toString('base64')}`) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
      return true;
    });
    liar.addImage(image, 'latest');
    try {
      await pushImage(registry, 'app', 'v1', image);
      const name = `${registry.address}/app:v1`;
      const spec = { image: { image: name } };
      expect(await cri.PullImage(spec)).toEqual({ imageRef: image.config.digest });
      const blobs = [image.manifest, image.config, ...image.layers];
      const { image: told, info } = await cri.ImageStatus({ ...spec, verbose: true });
      expect(told).toEqual({
        id: image.config.digest,
        repoTags: [name],
        repoDigests: [`${registry.address}/app@${image.manifest.digest}`],
        size: String(blobs.reduce((sum, { size }) => sum + size, 0)),
        uid: null,
        username: '',
        spec: null,
        pinned: false,
      });
      expect(JSON.parse(info.info ?? '')).toEqual({
        chainID: image.layers[0]?.diffId,
        imageSpec: JSON.parse(image.config.bytes.toString()),
      });
      expect((await cri.ListImages({})).images).toHaveLength(1);
      const streamed: string[] = [];
      for await (const { images } of cri.stream('StreamImages', {}))
        streamed.push(...images.map(({ id }) => id));
      expect(streamed).toEqual([image.config.digest]);
      const { imageFilesystems, containerFilesystems } = await cri.ImageFsInfo({});
      expect(imageFilesystems[0]?.fsId?.mountpoint).toBe(containerFilesystems[0]?.fsId?.mountpoint);
      expect((await cri.ImageStatus({ image: { image: 'absent' } })).image).toBeNull();
      await cri.RemoveImage(spec);
      await cri.RemoveImage(spec);
      expect((await cri.ListImages({})).images).toEqual([]);
      await expect(cri.PullImage({ image: { image: `${registry.address}/app:none` } })).rejects.toMatchObject(
        { code: status.NOT_FOUND },
      );
      await expect(cri.PullImage({ image: { image: 'Not A Name' } })).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
      });
      await expect(cri.PullImage({})).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
      const guarded = { image: { image: `${liar.address}/app` } };
      await expect(cri.PullImage(guarded)).rejects.toMatchObject({ code: status.UNAUTHENTICATED });
      const auth = { username: 'joe', password: 's3cret' };
      expect(await cri.PullImage({ ...guarded, auth })).toEqual({ imageRef: image.config.digest });
      // kubelet strips the code of UNKNOWN and looks at the beginning of the message.
      await expect(cri.PullImage({ image: { image: '127.0.0.1:1/app' } })).rejects.toMatchObject({
        code: status.UNKNOWN,
        details: expect.stringMatching(/^RegistryUnavailable: /),
      });
    } finally {
      cri.close();
      await registry.stop();
      await liar.close();
    }
  });

  it('pulls an image of 300 MB while it answers others, and gives the space back when it is removed', async () => {
    const megabyte = 1_000_000;
    const layers = ['a', 'b', 'c'].map(async name =>
      layerOf(await makeTar([{ name, content: randomBytes(100 * megabyte) }])),
    );
    const large = makeImage(await Promise.all(layers));
    const liar = await startLiar();
    liar.addImage(large, 'latest');
    const cri = connectCri(join(directory, 'cri.sock'));
    try {
      const used = async () => Number((await cri.ImageFsInfo({})).imageFilesystems[0]?.usedBytes?.value);
      const before = await used();
      const spec = { image: { image: `${liar.address}/large` } };
      let isPulled = false;
      const pull = cri.PullImage(spec).finally(() => {
        isPulled = true;
      });
      let answers = 0;
      for (; !isPulled; answers += 2) {
        await cri.Version({});
        await cri.ListContainers({});
      }
      expect(await pull).toEqual({ imageRef: large.config.digest });
      expect(answers).toBeGreaterThan(20);
      // The blobs and what is in them.
      expect((await used()) - before).toBeGreaterThan(600 * megabyte);
      await cri.RemoveImage(spec);
      expect((await used()) - before).toBeLessThan(megabyte);
    } finally {
      cri.close();
      await liar.close();
    }
  });

  it('killed in the middle of a pull leaves nothing that counts as an image, and the next pull goes on', async () => {
    const [layer] = image.layers;
    if (!layer) throw new Error('the image has no layer');
    const whole = layerOf(await makeTar([{ name: 'whole', content: 'whole' }]));
    const both = makeImage([whole, layer]);
    let slow = true;
    const liar = await startLiar((_, response, path) => {
      if (!slow || !path.endsWith(layer.digest)) return false;
      response.writeHead(200, { 'content-length': layer.size });
      response.write(layer.bytes.subarray(0, 50_000));
      return true;
    });
    liar.addImage(both, 'latest');
    const pull = run('pull', `${liar.address}/app`);
    const complete = join(directory, 'root/content/blobs/sha256', whole.digest.slice(7));
    await expect.poll(() => existsSync(complete), { timeout: 20_000 }).toBe(true);
    const partial = join(directory, 'root/content/ingest', layer.digest.slice(7));
    await expect
      .poll(() => existsSync(partial) && readFileSync(partial).length, { timeout: 20_000 })
      .toBe(50_000);
    daemon.child.kill('SIGKILL');
    await once(daemon.child, 'exit');
    expect((await pull).code).toBe(1);
    daemon = await startDaemon();
    expect(JSON.parse((await run('list', '--json')).stdout)).toEqual([]);
    expect(readdirSync(join(directory, 'root/layers')).filter(name => /^\d+$/.test(name))).toEqual([]);
    slow = false;
    expect(await run('pull', `${liar.address}/app`)).toMatchObject({
      code: 0,
      stdout: `${both.config.digest}\n`,
    });
    expect(liar.requests.at(-1)?.headers.range).toBe('bytes=50000-');
    // The layer that had come whole was asked for once, before the kill.
    expect(liar.requests.filter(({ path }) => path.endsWith(whole.digest))).toHaveLength(1);
    expect(await run('verify')).toMatchObject({ code: 0 });
    await liar.close();
  });
});
