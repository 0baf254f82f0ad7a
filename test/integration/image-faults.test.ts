// Registries that fail, lie and attack; pulls that are cut off. Each ends in an error that names host, image and
// cause, and leaves nothing that counts as an image.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Liar, sendBlob, startLiar, type TakeOver } from '../support/image/liar.ts';
import { blobOf, filesLike, type Image, layerOf, makeImage, makeTar } from '../support/image/make-image.ts';
import { openTestImages, type TestImages } from '../support/image/open-images.ts';
import { until } from '../support/node.ts';

const progressTimeoutMs = 2000;
const patience = { timeout: 60_000 };
let test: TestImages;
let image: Image;
let liar: Liar | undefined;
beforeEach(async () => {
  test = await openTestImages({ pullProgressTimeoutMs: progressTimeoutMs });
  image = makeImage([layerOf(await makeTar(filesLike('a', 1_500_000, 2)))]);
});
afterEach(async () => {
  await liar?.close();
  liar = undefined;
  await test.remove();
});

async function serve(takeOver: TakeOver = () => false): Promise<string> {
  liar = await startLiar(takeOver);
  liar.addImage(image, 'latest');
  return `${liar.address}/app`;
}

const layerOfImage = () => {
  const layer = image.layers[0];
  if (!layer) throw new Error('the image has no layer');
  return layer;
};
const zstd = (bytes: Buffer) => execFileSync('zstd', ['-q', '-c'], { input: bytes, maxBuffer: 1 << 30 });
const isLayer = (path: string) => path.endsWith(layerOfImage().digest);
const partials = () => readdirSync(join(test.root, 'content/ingest'));
const layerDirectories = () => readdirSync(join(test.root, 'layers')).filter(name => /^\d+$/.test(name));

function expectNothing(): void {
  expect(test.images.list()).toEqual([]);
  expect(layerDirectories()).toEqual([]);
}

const unavailable = (cause: RegExp) => ({
  message: expect.stringMatching(new RegExp(`^RegistryUnavailable: pulling .*app.*${cause.source}`)),
});

describe('a registry that cannot be reached', () => {
  it('refuses the connection', async () => {
    await expect(test.images.pull('127.0.0.1:1/app')).rejects.toMatchObject(
      unavailable(/127\.0\.0\.1:1 refused the connection/),
    );
  });

  it('has a name that nobody knows', async () => {
    await expect(test.images.pull('no-such-host.invalid/app')).rejects.toMatchObject(
      unavailable(/no-such-host\.invalid cannot be found/),
    );
  });
});

describe('a second pull', () => {
  it('of a tag that stands costs one HEAD', async () => {
    const name = await serve();
    await test.images.pull(name);
    const before = liar?.requests.length;
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(liar?.requests.slice(before).map(({ method, path }) => [method, path])).toEqual([
      ['HEAD', '/v2/app/manifests/latest'],
    ]);
  });

  it.each([400, 403, 404, 405, 501])('succeeds where the registry answers HEAD with %i', async status => {
    const name = await serve(({ method }, response) => {
      if (method !== 'HEAD') return false;
      response.writeHead(status).end();
      return true;
    });
    await test.images.pull(name);
    const before = liar?.requests.length;
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(liar?.requests.slice(before).map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  it('by digest succeeds at hosts that may not say what a tag stands for', async () => {
    const { address } = await startWithPullOnly();
    const name = `${address}/app@${image.manifest.digest}`;
    for (const _ of ['first', 'second']) expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(liar?.requests.at(-1)).toMatchObject({ method: 'HEAD' });
  });

  async function startWithPullOnly(): Promise<Liar> {
    liar = await startLiar();
    liar.addImage(image, 'latest');
    const directory = mkdtempSync(join(tmpdir(), 'cri-ts-images-'));
    const certs = join(directory, 'certs');
    mkdirSync(join(certs, liar.address), { recursive: true });
    writeFileSync(
      join(certs, liar.address, 'hosts.toml'),
      `server = "http://${liar.address}"\ncapabilities = ["pull"]`,
    );
    await test.remove();
    test = await openTestImages({ registry: { configPaths: [certs] } }, directory);
    return liar;
  }
});

describe('a registry that fails', () => {
  it('with 500 and 429 for a while is asked again', async () => {
    let failures = 0;
    const name = await serve((_, response) => {
      if (failures++ >= 3) return false;
      response.writeHead(failures === 2 ? 429 : 503, { 'retry-after': '0' }).end();
      return true;
    });
    expect(await test.images.pull(name)).toBe(image.config.digest);
  });

  it('with 500 for good is unavailable', async () => {
    const name = await serve((_, response) => {
      response.writeHead(500).end('out of order');
      return true;
    });
    await expect(test.images.pull(name)).rejects.toMatchObject(unavailable(/answered 500 .*out of order/));
  });

  it('with 403 denies: PermissionDenied', async () => {
    const name = await serve((_, response) => {
      response.writeHead(403).end();
      return true;
    });
    await expect(test.images.pull(name)).rejects.toMatchObject({
      kind: 'permissionDenied',
      message: expect.stringContaining(name),
    });
  });

  it('in the middle of a blob is asked for the rest, and not for what came', async () => {
    let breaks = 0;
    const { bytes } = layerOfImage();
    const name = await serve((request, response, path) => {
      if (!isLayer(path) || breaks++ >= 3) return false;
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': bytes.length - from,
        'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
      });
      response.write(bytes.subarray(from, from + 100_000));
      setTimeout(() => response.destroy(), 30);
      return true;
    });
    expect(await test.images.pull(name)).toBe(image.config.digest);
    const ranges = liar?.requests
      .filter(({ path }) => path.includes(layerOfImage().digest))
      .map(({ headers }) => headers.range);
    const starts = ranges?.map(range => Number(/bytes=(\d+)-/.exec(range ?? 'bytes=0-')?.[1])) ?? [];
    expect(starts).toHaveLength(4);
    expect(starts).toEqual([...new Set(starts)].sort((a, b) => a - b));
  });

  it('in the middle and without ranges is read again from the start', async () => {
    let breaks = 0;
    const { bytes } = layerOfImage();
    const name = await serve((_, response, path) => {
      if (!isLayer(path)) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      if (breaks++ > 0) response.end(bytes);
      else response.write(bytes.subarray(0, 150_000), () => setTimeout(() => response.destroy(), 30));
      return true;
    });
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(await test.images.verify()).toEqual([]);
  });

  it('again and again at one place is given up, and what came is kept for the next pull', async () => {
    let broken = true;
    const { bytes, digest } = layerOfImage();
    const name = await serve((request, response, path) => {
      if (!isLayer(path) || !broken) return false;
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': bytes.length - from,
        'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
      });
      response.flushHeaders();
      if (from === 0) response.write(bytes.subarray(0, 200_000));
      setTimeout(() => response.destroy(), 30);
      return true;
    });
    await expect(test.images.pull(name)).rejects.toMatchObject(
      unavailable(/stopped sending blob .* after [0-9]+ of/),
    );
    expectNothing();
    expect(partials()).toEqual([digest.slice(7)]);
    // How much of a body arrives before it breaks is the network's matter; that it is kept is ours.
    const kept = statSync(join(test.root, 'content/ingest', digest.slice(7))).size;
    expect(kept).toBeGreaterThan(0);
    broken = false;
    await test.reopen();
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(liar?.requests.at(-1)?.headers.range).toBe(`bytes=${kept}-`);
    expect(partials()).toEqual([]);
    expect(await test.images.verify()).toEqual([]);
  });

  it.each([
    ['stalls', 0],
    ['trickles', 20],
  ])('that %s is given up after the progress timeout', async (_, everyMs) => {
    const { bytes } = layerOfImage();
    let timer: NodeJS.Timeout | undefined;
    const name = await serve((_request, response, path) => {
      if (!isLayer(path)) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 1000));
      let at = 1000;
      if (everyMs > 0) timer = setInterval(() => response.write(bytes.subarray(at, ++at)), everyMs);
      return true;
    });
    await expect(test.images.pull(name)).rejects.toMatchObject(
      unavailable(/stopped sending .*image_pull_progress_timeout/),
    );
    clearInterval(timer);
    expectNothing();
  });

  it('by redirecting in circles is unavailable', async () => {
    const name = await serve((request, response) => {
      response.writeHead(307, { location: request.url ?? '' }).end();
      return true;
    });
    await expect(test.images.pull(name)).rejects.toMatchObject(unavailable(/redirects more than 10 times/));
  });
});

describe('a registry whose tokens end early', () => {
  /** Serves with tokens of its own; `accepts` says whether a request may have the token with this number. */
  async function serveWithTokens(accepts: (token: number, path: string) => boolean) {
    const given: number[] = [];
    const name = await serve(({ headers }, response, path) => {
      if (path === '/token') {
        given.push(given.length + 1);
        response.end(JSON.stringify({ token: `token-${given.length}` }));
        return true;
      }
      const token = Number(/^Bearer token-(\d+)$/.exec(headers.authorization ?? '')?.[1] ?? 0);
      if (token > 0 && accepts(token, path)) return false;
      const challenge = `Bearer realm="http://${liar?.address}/token",service="s",error="invalid_token"`;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
      return true;
    });
    return { name, given };
  }

  it('is asked for another one, and the pull goes on', async () => {
    const { name, given } = await serveWithTokens((token, path) => !isLayer(path) || token > 1);
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(given).toEqual([1, 2]);
  });

  it('and that accepts none of them is not asked for ever: Unauthenticated', async () => {
    const { name, given } = await serveWithTokens((_, path) => !isLayer(path));
    await expect(test.images.pull(name)).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringContaining(name),
    });
    expect(given.length).toBeLessThan(4);
    expectNothing();
  });
});

it('layers are fetched at most max_concurrent_downloads at a time, over connections that are kept', async () => {
  await test.remove();
  test = await openTestImages({ maxConcurrentDownloads: 2 });
  const count = 8;
  const layers = Array.from({ length: count }, async (_, i) =>
    layerOf(await makeTar([{ name: `f${i}`, content: String(i) }])),
  );
  const many = makeImage(await Promise.all(layers));
  const digests = new Set(many.layers.map(({ digest }) => digest));
  const connections = new Set<unknown>();
  let [atWork, most] = [0, 0];
  const name = await serve(async ({ socket }, response, path) => {
    connections.add(socket);
    if (!digests.has(path.slice(path.lastIndexOf('/') + 1))) return false;
    most = Math.max(most, ++atWork);
    response.once('close', () => atWork--);
    await until('a second one is at work', () => most > 1 || undefined);
    await sleep(100); // in which a third might come
    return false;
  });
  liar?.addImage(many, 'many');
  expect(await test.images.pull(`${name}:many`)).toBe(many.config.digest);
  expect(most).toBe(2);
  expect(connections.size).toBeLessThan(count);
});

it('small layers are the work of one worker process, large ones of several', async () => {
  const layersOf = (count: number, bytes: number) =>
    Promise.all(
      Array.from({ length: count }, async (_, i) =>
        layerOf(await makeTar([{ name: `f${i}`, content: randomBytes(bytes) }])),
      ),
    );
  const [small, large] = [makeImage(await layersOf(12, 20_000)), makeImage(await layersOf(3, 2_000_000))];
  const name = await serve();
  liar?.addImage(small, 'small');
  liar?.addImage(large, 'large');
  await test.images.pull(`${name}:small`);
  expect(workers()).toHaveLength(1);
  await test.images.pull(`${name}:large`);
  expect(workers().length).toBeGreaterThan(1);
});

describe('credentials', () => {
  it('are not sent to the host that a blob is redirected to, nor are the headers of hosts.toml', async () => {
    const other = await startLiar();
    const name = await serve((request, response, path) => {
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
        return true;
      }
      if (!isLayer(path)) return false;
      response
        .writeHead(307, { location: `http://${other.address}/elsewhere/${layerOfImage().digest}` })
        .end();
      return true;
    });
    other.add(layerOfImage());
    await test.images.pull(name, { auth: { username: 'user', password: 'secret' } });
    expect(other.requests).toHaveLength(1);
    expect(other.requests[0]?.headers.authorization).toBeUndefined();
    await other.close();
  });

  it('never reach the log', async () => {
    const lines: string[] = [];
    const { pino } = await import('pino');
    await test.remove();
    test = await openTestImages({ log: pino({ level: 'trace' }, { write: line => lines.push(line) }) });
    const name = await serve();
    await test.images.pull(name, { auth: { username: 'user', password: 'hunter2' } });
    await test.images.remove(name);
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.join('')).not.toContain('hunter2');
  });

  it('are not sent to a token server without TLS by a registry with it', async () => {
    const { mkdtempSync, rmSync } = await import('node:fs');
    const { makeAuthority, makeCertificate } = await import('../support/image/certificates.ts');
    const directory = mkdtempSync(join(test.directory, 'tls-'));
    const certificate = makeCertificate(directory, 'server', makeAuthority(directory));
    const tokens = await startLiar();
    const secure = await startLiar(
      (_, response) => {
        response
          .writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokens.address}/token",service="s"` })
          .end();
        return true;
      },
      { cert: certificate.certificate, key: certificate.key },
    );
    await test.remove();
    const certs = mkdtempSync('/tmp/cri-ts-certs-');
    const { mkdirSync, writeFileSync } = await import('node:fs');
    mkdirSync(join(certs, secure.address));
    writeFileSync(
      join(certs, secure.address, 'hosts.toml'),
      `server = "https://${secure.address}"\nskip_verify = true`,
    );
    test = await openTestImages({ registry: { configPaths: [certs] } });
    await expect(
      test.images.pull(`${secure.address}/app`, { auth: { username: 'u', password: 'p' } }),
    ).rejects.toThrow(/reached without TLS: credentials are not sent/);
    expect(tokens.requests).toEqual([]);
    rmSync(certs, { recursive: true });
    await secure.close();
    await tokens.close();
  });
});

describe('a registry that lies', () => {
  it('about a blob is found out by the digest, and what it sent is not kept', async () => {
    const name = await serve((request, response, path) => {
      if (!isLayer(path)) return false;
      const bytes = Buffer.from(layerOfImage().bytes);
      bytes[bytes.length - 4] = (bytes.at(-4) ?? 0) ^ 1; // behind the compressed data, in the CRC or length
      sendBlob(request, response, { ...layerOfImage(), bytes });
      return true;
    });
    await expect(test.images.pull(name)).rejects.toThrow(
      /gzip data is damaged|its content is not what the manifest names/,
    );
    expectNothing();
  });

  it('with another valid layer is found out', async () => {
    const other = layerOf(await makeTar([{ name: 'evil', content: 'x' }]));
    const name = await serve((request, response, path) => {
      if (!isLayer(path)) return false;
      sendBlob(request, response, other);
      return true;
    });
    await expect(test.images.pull(name)).rejects.toThrow(/the manifest states/);
    expectNothing();
  });

  it.each([
    ['a small gzip', 100_000, 'gzip'],
    ['a large gzip', 8_000_000, 'gzip'],
    ['a zstd', 100_000, 'zstd'],
  ] as const)(
    'with %s layer that is cut short under its right digest is found out',
    async (_, size, format) => {
      const archive = await makeTar(filesLike('a', size, 3));
      const whole = layerOf(archive, format, format === 'zstd' ? zstd : undefined);
      const layer = { ...whole, ...blobOf(whole.bytes.subarray(0, -6), whole.mediaType) };
      const name = await serve();
      liar?.addImage(makeImage([layer]), 'short');
      await expect(test.images.pull(`${name}:short`)).rejects.toThrow(`the ${format} data is damaged`);
      expectNothing();
      expect(partials()).toEqual([]);
    },
  );

  it('about the lowest layer leaves nothing of those above it', async () => {
    const layers = await Promise.all(
      ['lowest', 'middle', 'top'].map(async text => layerOf(await makeTar([{ name: text, content: text }]))),
    );
    const [lowest, middle] = layers;
    const name = await serve(async (request, response, path) => {
      if (!lowest || !middle || !path.endsWith(lowest.digest)) return false;
      await expect.poll(() => layerDirectories().length, patience).toBe(layers.length);
      sendBlob(request, response, { ...lowest, bytes: middle.bytes });
      return true;
    });
    liar?.addImage(makeImage(layers), 'three');
    await expect(test.images.pull(`${name}:three`)).rejects.toThrow(lowest?.digest);
    expectNothing();
  });

  it('about one image does not hurt another that shares a layer with it at that moment', async () => {
    const [base, good, bad] = await Promise.all(
      ['base', 'good', 'bad'].map(async text => layerOf(await makeTar([{ name: text, content: text }]))),
    );
    if (!base || !good || !bad) throw new Error('a layer is missing');
    let letBaseGo = () => {};
    const baseMayGo = new Promise<void>(resolve => {
      letBaseGo = resolve;
    });
    const name = await serve(async (request, response, path) => {
      if (path.endsWith(base.digest)) await baseMayGo;
      if (!path.endsWith(bad.digest)) return false;
      await expect.poll(() => asked(good), patience).toBe(1);
      sendBlob(request, response, { ...bad, bytes: good.bytes });
      return true;
    });
    const asked = ({ digest }: { digest: string }) =>
      liar?.requests.filter(({ path }) => path.endsWith(digest)).length;
    const sound = makeImage([base, good]);
    liar?.addImage(sound, 'good');
    liar?.addImage(makeImage([base, bad]), 'bad');
    const pulls = [test.images.pull(`${name}:good`), test.images.pull(`${name}:bad`)];
    await expect(pulls[1]).rejects.toThrow(bad.digest);
    letBaseGo();
    expect(await pulls[0]).toBe(sound.config.digest);
    expect(asked(base)).toBe(1);
    expect(layerDirectories()).toHaveLength(2);
    expect(await test.images.verify()).toEqual([]);
  });

  it('with more bytes than the manifest states is cut off', async () => {
    const { bytes } = layerOfImage();
    const name = await serve((_, response, path) => {
      if (!isLayer(path)) return false;
      response.writeHead(200);
      response.end(Buffer.concat([bytes, bytes]));
      return true;
    });
    await expect(test.images.pull(name)).rejects.toThrow(/longer than the|gzip data is damaged/);
    expectNothing();
  });

  it('with fewer bytes than the manifest states is found out', async () => {
    const { bytes } = layerOfImage();
    const name = await serve((_, response, path) => {
      if (!isLayer(path)) return false;
      response.writeHead(200, { 'content-length': 100_000 }).end(bytes.subarray(0, 100_000));
      return true;
    });
    await expect(test.images.pull(name)).rejects.toThrow(
      `blob ${layerOfImage().digest} has 100000 bytes, the manifest states ${bytes.length}`,
    );
    expectNothing();
  });

  it('about the manifest of a digest is found out', async () => {
    const other = makeImage([layerOf(await makeTar([{ name: 'evil', content: 'x' }]))]);
    const name = await serve((request, response, path) => {
      if (!path.includes('/manifests/')) return false;
      sendBlob(request, response, other.manifest);
      return true;
    });
    await expect(test.images.pull(`${name}@${image.manifest.digest}`)).rejects.toThrow(
      new RegExp(`sent a manifest of digest ${other.manifest.digest}`),
    );
  });

  it.each([
    ['text that is no JSON', Buffer.from('<html>login</html>'), /is not JSON/],
    ['JSON that is no manifest', Buffer.from('{"schemaVersion":2,"config":7}'), /is malformed: config/],
    ['a list', Buffer.from('[]'), /malformed/],
    ['schema 1', Buffer.from('{"schemaVersion":1,"fsLayers":[]}'), /schema 1, which is not supported/],
    [
      'an index that contains itself',
      Buffer.from('{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:x","size":1}]}'),
      /malformed: manifests/,
    ],
    [
      'a climbing digest',
      Buffer.from(
        '{"schemaVersion":2,"config":{"digest":"sha256:../../../../etc/passwd","size":1},"layers":[]}',
      ),
      /malformed: config\.digest/,
    ],
  ])('with %s instead of a manifest is refused', async (_, bytes, words) => {
    const name = await serve();
    liar?.add(blobOf(bytes, image.manifest.mediaType), 'odd');
    await expect(test.images.pull(`${name}:odd`)).rejects.toThrow(words);
    expectNothing();
  });

  it('with a manifest of 100 MB is not listened to for long', async () => {
    let sent = 0;
    const chunk = Buffer.alloc(1 << 20, ' ');
    const name = await serve((_, response, path) => {
      if (!path.includes('/manifests/')) return false;
      response.writeHead(200, { 'content-type': image.manifest.mediaType });
      const more = () => {
        while (sent < 100 && !response.destroyed) {
          sent++;
          if (!response.write(chunk)) {
            response.once('drain', more);
            return;
          }
        }
        response.end();
      };
      more();
      return true;
    });
    await expect(test.images.pull(name)).rejects.toThrow(/larger than the 8388608 bytes/);
    expect(sent).toBeLessThan(60);
  });

  it('with a manifest of 100 MB by its own account is not listened to', async () => {
    const name = await serve((_, response, path) => {
      if (!path.includes('/manifests/')) return false;
      response.writeHead(200, { 'content-type': image.manifest.mediaType, 'content-length': 100 << 20 });
      response.write('{');
      return true; // nothing more comes: whoever waits for it waits for long
    });
    await expect(test.images.pull(name)).rejects.toThrow(/larger than the 8388608 bytes/);
    expectNothing();
  });

  it('with a config that is no JSON is refused', async () => {
    const config = blobOf(Buffer.from('{"architecture":'), image.config.mediaType);
    const { mediaType, digest, size } = config;
    const manifest = { ...JSON.parse(image.manifest.bytes.toString()), config: { mediaType, digest, size } };
    const name = await serve();
    liar?.add(config);
    liar?.add(blobOf(Buffer.from(JSON.stringify(manifest)), image.manifest.mediaType), 'odd');
    await expect(test.images.pull(`${name}:odd`)).rejects.toThrow(`image config ${digest} is not JSON`);
    expectNothing();
  });

  it.each(['{"token":', '[]', '{"token":7}', '{"token":""}'])(
    'with %s instead of a token is refused: Unauthenticated',
    async answer => {
      const name = await serve((_, response, path) => {
        if (path === '/token') response.end(answer);
        else
          response
            .writeHead(401, { 'www-authenticate': `Bearer realm="http://${liar?.address}/token"` })
            .end();
        return true;
      });
      await expect(test.images.pull(name)).rejects.toMatchObject({
        kind: 'unauthenticated',
        message: expect.stringMatching(/token server .* answered without a token/),
      });
    },
  );

  it('about the number of layers is refused', async () => {
    const config = blobOf(
      Buffer.from(
        JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } }),
      ),
      image.config.mediaType,
    );
    const manifest = blobOf(
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: image.manifest.mediaType,
          config: { mediaType: config.mediaType, digest: config.digest, size: config.size },
          layers: [
            { mediaType: layerOfImage().mediaType, digest: layerOfImage().digest, size: layerOfImage().size },
          ],
        }),
      ),
      image.manifest.mediaType,
    );
    const name = await serve();
    liar?.add(config);
    liar?.add(manifest, 'odd');
    await expect(test.images.pull(`${name}:odd`)).rejects.toThrow(
      /1 layers in its manifest and 0 in its config/,
    );
  });
});

describe('a file system without room', () => {
  const mebibyte = 1024 * 1024;
  let small: TestImages;
  beforeEach(async () => {
    const directory = mkdtempSync(join(tmpdir(), 'cri-ts-full-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=28m', 'tmpfs', directory]);
    small = await openTestImages({}, directory);
  });
  afterEach(async () => {
    for (const { id } of small.images.list()) await small.images.remove(id);
    await small.images.close();
    execFileSync('umount', ['-l', small.directory]);
    rmSync(small.directory, { recursive: true });
  });
  const random = async (name: string, bytes: number) =>
    layerOf(await makeTar([{ name, content: randomBytes(bytes) }]), 'gzip');
  const filesOf = () =>
    ['content', 'layers'].flatMap(part =>
      readdirSync(join(small.root, part), { recursive: true, encoding: 'utf8' }).sort(),
    );

  it('fails the pull in words, is left as it was, and what is there already goes on', async () => {
    const present = makeImage([await random('present', mebibyte)]);
    const large = makeImage([await random('fits', 2 * mebibyte), await random('does-not', 20 * mebibyte)]);
    const name = await serve();
    liar?.addImage(present, 'present');
    liar?.addImage(large, 'large');
    await small.images.pull(`${name}:present`);
    const before = filesOf();
    await expect(small.images.pull(`${name}:large`)).rejects.toMatchObject({
      kind: 'resourceExhausted',
      message: expect.stringMatching(new RegExp(`${name}:large.*no space left on device.*make room`)),
    });
    expect(small.images.list().map(({ id }) => id)).toEqual([present.config.digest]);
    expect(filesOf()).toEqual(before);
    expect(await small.images.verify()).toEqual([]);
    expect(await small.images.pull(name)).toBe(image.config.digest);
    await small.reopen();
    expect(await small.images.verify()).toEqual([]);
    expect(small.images.list()).toHaveLength(2);
  });
});

describe('a pull that is cut off', () => {
  it('by its caller leaves no image and no layer, and the next one goes on', async () => {
    const { bytes } = layerOfImage();
    let slow = true;
    const name = await serve((_, response, path) => {
      if (!isLayer(path) || !slow) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 300_000));
      return true;
    });
    const controller = new AbortController();
    const pull = test.images.pull(name, { signal: controller.signal });
    pull.catch(() => {});
    const partial = join(test.root, 'content/ingest', layerOfImage().digest.slice(7));
    await until(
      'the first part has come',
      () => (existsSync(partial) && statSync(partial).size === 300_000) || undefined,
    );
    controller.abort();
    await expect(pull).rejects.toMatchObject({ kind: 'cancelled' });
    expectNothing();
    slow = false;
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(liar?.requests.at(-1)?.headers.range).toBe('bytes=300000-');
  });

  it('waits neither for layers that another pull fetches nor for its turn behind them', async () => {
    await test.remove();
    test = await openTestImages({ maxConcurrentDownloads: 1 });
    const shared = layerOfImage();
    const own = layerOf(await makeTar([{ name: 'own', content: 'own' }]));
    let letGo = () => {};
    const mayGo = new Promise<void>(resolve => {
      letGo = resolve;
    });
    const name = await serve(async (_, __, path) => {
      if (isLayer(path)) await mayGo;
      return false;
    });
    const two = makeImage([shared, own]);
    liar?.addImage(two, 'two');
    const stays = test.images.pull(name);
    await expect.poll(() => liar?.requests.some(({ path }) => isLayer(path)), patience).toBe(true);
    const controller = new AbortController();
    const leaves = test.images.pull(`${name}:two`, { signal: controller.signal });
    leaves.catch(() => {});
    await expect
      .poll(() => liar?.requests.some(({ path }) => path.endsWith(two.config.digest)), patience)
      .toBe(true);
    controller.abort();
    await expect(leaves).rejects.toMatchObject({ kind: 'cancelled' });
    letGo();
    expect(await stays).toBe(image.config.digest);
    expect(layerDirectories()).toHaveLength(1);
  });

  it('by the death of its workers fails in words, and the next one succeeds', async () => {
    await test.remove();
    test = await openTestImages();
    const { bytes } = layerOfImage();
    let slow = true;
    const name = await serve((_, response, path) => {
      if (!isLayer(path) || !slow) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 100_000));
      return true;
    });
    const pull = test.images.pull(name);
    pull.catch(() => {});
    await expect.poll(partials, patience).toHaveLength(1);
    const pids = workers();
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await expect(pull).rejects.toThrow(/an image worker failed: it ended with SIGKILL/);
    slow = false;
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(await test.images.verify()).toEqual([]);
  });

  it('with a partial blob that rotted starts over', async () => {
    const { writeFileSync } = await import('node:fs');
    const name = await serve();
    writeFileSync(join(test.root, 'content/ingest', layerOfImage().digest.slice(7)), Buffer.alloc(5000, 'x'));
    expect(await test.images.pull(name)).toBe(image.config.digest);
    expect(await test.images.verify()).toEqual([]);
    expect(partials()).toEqual([]);
  });
});

/** This process's image workers. */
function workers(): number[] {
  const children = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        const parent = /\nPPid:\t(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
        return (
          Number(parent) === process.pid &&
          readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('image/worker')
        );
      } catch {
        return false;
      }
    });
  return children.map(Number);
}
