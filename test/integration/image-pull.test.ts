// Pulling from Debian's docker-registry: plain, TLS, basic and token authorization, mirrors, platforms.
import { execFileSync } from 'node:child_process';
import { createHash, createSign, randomUUID } from 'node:crypto';
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
import http from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { basicAuthorization } from '../../src/image/registry/transport.ts';
import { type Certificate, makeAuthority, makeCertificate } from '../support/image/certificates.ts';
import { type Liar, startLiar } from '../support/image/liar.ts';
import {
  blobOf,
  filesLike,
  type Image,
  layerOf,
  makeImage,
  makeIndex,
  makeTar,
} from '../support/image/make-image.ts';
import { openTestImages, type TestImages } from '../support/image/open-images.ts';
import { pushImage, pushManifest, startRegistry, type TestRegistry } from '../support/image/registry.ts';

const zstd = (bytes: Buffer) => execFileSync('zstd', ['-q', '-c'], { input: bytes, maxBuffer: 1 << 30 });
const simple = async (text: string, settings: Parameters<typeof makeImage>[1] = {}): Promise<Image> =>
  makeImage([layerOf(await makeTar([{ name: 'text', content: text }]))], settings);

let scratch: string;
let certs: string;
let test: TestImages;
beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'cri-ts-pull-'));
  certs = join(scratch, 'certs.d');
  mkdirSync(certs);
  test = await openTestImages({ registry: { configPaths: [certs] } });
});
afterEach(async () => {
  await test.remove();
  rmSync(scratch, { recursive: true });
});

/** Writes hosts.toml for a registry. */
function hosts(registry: string, toml: string): void {
  mkdirSync(join(certs, registry), { recursive: true });
  writeFileSync(join(certs, registry, 'hosts.toml'), toml);
}

const layerText = (id: string) => {
  const chainId = test.images.resolve(id).chainIds.at(-1);
  return chainId === undefined
    ? undefined
    : readFileSync(join(test.root, 'layers', String(layerNumber()), 'text'), 'utf8');
};
const layerNumber = () =>
  Math.max(
    ...readdirSync(join(test.root, 'layers'))
      .filter(name => /^\d+$/.test(name))
      .map(Number),
  );

describe('a plain registry', () => {
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await startRegistry();
  });
  afterAll(() => registry.stop());

  it('gives an image by tag, listed under its tag and its digest', async () => {
    const image = await simple('by tag');
    await pushImage(registry, 'a/tagged', 'v1', image);
    const name = `${registry.address}/a/tagged`;
    expect(await test.images.pull(`${name}:v1`)).toBe(image.config.digest);
    expect(test.images.list()).toMatchObject([
      {
        id: image.config.digest,
        repoTags: [`${name}:v1`],
        repoDigests: [`${name}@${image.manifest.digest}`],
      },
    ]);
    expect(layerText(image.config.digest)).toBe('by tag');
  });

  it('gives an image by digest, listed without a tag, also when a tag stands beside it', async () => {
    const image = await simple('by digest');
    await pushImage(registry, 'b', 'v1', image);
    const name = `${registry.address}/b`;
    await test.images.pull(`${name}:v1@${image.manifest.digest}`);
    expect(test.images.list()).toMatchObject([
      { repoTags: [], repoDigests: [`${name}@${image.manifest.digest}`] },
    ]);
  });

  it.each(['gzip', 'zstd', 'none'] as const)('gives %s layers', async compression => {
    const image = makeImage([
      layerOf(
        await makeTar([{ name: 'text', content: compression }]),
        compression,
        compression === 'zstd' ? zstd : undefined,
      ),
    ]);
    await pushImage(registry, `c/${compression}`, 'latest', image);
    expect(layerText(await test.images.pull(`${registry.address}/c/${compression}`))).toBe(compression);
  });

  it('gives images of docker schema 2 and manifest lists', async () => {
    const image = await simple('docker', { docker: true });
    await pushImage(registry, 'd', 'x', image);
    const list = makeIndex(
      [{ blob: image.manifest, platform: { os: 'linux', architecture: 'amd64' } }],
      true,
    );
    await pushManifest(registry, 'd', 'list', list);
    await test.images.pull(`${registry.address}/d:x`);
    await test.images.pull(`${registry.address}/d:list`);
    expect(test.images.list()).toMatchObject([
      {
        repoDigests: expect.arrayContaining([
          `${registry.address}/d@${list.digest}`,
          `${registry.address}/d@${image.manifest.digest}`,
        ]),
        size: [list, image.manifest, image.config, ...image.layers].reduce((sum, { size }) => sum + size, 0),
      },
    ]);
  });

  it('gives the platform of this node out of nested indexes', async () => {
    const wanted = await simple('amd64');
    const other = await simple('arm64', { architecture: 'arm64', variant: 'v8' });
    for (const [tag, image] of [
      ['w', wanted],
      ['o', other],
    ] as const)
      await pushImage(registry, 'e', tag, image);
    const inner = makeIndex([
      { blob: other.manifest, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
      { blob: wanted.manifest, platform: { os: 'linux', architecture: 'amd64' } },
    ]);
    await pushManifest(registry, 'e', 'inner', inner);
    const outer = makeIndex([{ blob: inner }]);
    await pushManifest(registry, 'e', 'outer', outer);
    expect(await test.images.pull(`${registry.address}/e:outer`)).toBe(wanted.config.digest);
    expect(test.images.list()[0]?.repoDigests).toEqual([`${registry.address}/e@${outer.digest}`]);
    const unsaid = makeIndex([{ blob: other.manifest }]);
    await pushManifest(registry, 'e', 'unsaid', unsaid);
    await expect(test.images.pull(`${registry.address}/e:unsaid`)).rejects.toMatchObject({
      kind: 'notFound',
      message: expect.stringMatching(/an image for linux\/arm64\/v8, this node needs linux\/amd64/),
    });
    const foreign = makeIndex([{ blob: other.manifest, platform: { os: 'linux', architecture: 'arm64' } }]);
    await pushManifest(registry, 'e', 'foreign', foreign);
    await expect(test.images.pull(`${registry.address}/e:foreign`)).rejects.toThrow(
      /no image for linux\/amd64, only for linux\/arm64/,
    );
  });

  it('gives a manifest that is named itself, whatever its platform, as containerd does', async () => {
    const other = await simple('other', { architecture: 'arm64', variant: 'v8' });
    await pushImage(registry, 'platform', 'other', other);
    expect(await test.images.pull(`${registry.address}/platform:other`)).toBe(other.config.digest);
  });

  it('gives the image for 32 bits where there is none for 64', async () => {
    const older = await simple('older', { architecture: '386' });
    await pushImage(registry, 'platform', 'older', older);
    const index = makeIndex([{ blob: older.manifest, platform: { os: 'linux', architecture: '386' } }]);
    await pushManifest(registry, 'platform', 'index', index);
    expect(await test.images.pull(`${registry.address}/platform:index`)).toBe(older.config.digest);
  });

  it('gives an image of 120 layers, equal ones among them', async () => {
    const layers = [];
    for (let i = 0; i < 120; i++)
      layers.push(layerOf(await makeTar([{ name: `f${i % 40}`, content: 'same' }])));
    const image = makeImage(layers);
    await pushImage(registry, 'f', 'latest', image);
    await test.images.pull(`${registry.address}/f`);
    await test.images.rootfs.prepare('c', image.config.digest, { readonly: true });
    expect(readdirSync(await test.images.rootfs.mount('c'))).toHaveLength(40);
    expect(readdirSync(join(test.root, 'content/blobs/sha256'))).toHaveLength(42);
  });

  it('is asked for no manifest and no blob again while a tag stands still, and follows it when it moves', async () => {
    const [first, second] = [await simple('first'), await simple('second')];
    await pushImage(registry, 'g', 'latest', first);
    const name = `${registry.address}/g`;
    await test.images.pull(name);
    await test.images.pull(name);
    await pushImage(registry, 'g', 'latest', second);
    expect(await test.images.pull(name)).toBe(second.config.digest);
    expect(test.images.resolve(name).id).toBe(second.config.digest);
    // The old one stays under its digest, as on containerd.
    expect(test.images.resolve(first.config.digest)).toMatchObject({
      repoTags: [],
      repoDigests: [`${name}@${first.manifest.digest}`],
    });
  });

  it('gives one image under several names', async () => {
    const image = await simple('shared');
    await pushImage(registry, 'h1', 'latest', image);
    await pushImage(registry, 'h2', 'v2', image);
    await test.images.pull(`${registry.address}/h1`);
    await test.images.pull(`${registry.address}/h2:v2`);
    expect(test.images.list()).toMatchObject([
      { repoTags: [`${registry.address}/h1:latest`, `${registry.address}/h2:v2`] },
    ]);
  });

  it('gives what skopeo and umoci made', async () => {
    const layout = join(scratch, 'umoci');
    execFileSync('umoci', ['init', '--layout', layout]);
    execFileSync('umoci', ['new', '--image', `${layout}:made`]);
    const bundle = join(scratch, 'bundle');
    execFileSync('umoci', ['unpack', '--image', `${layout}:made`, bundle]);
    execFileSync('cp', ['/bin/busybox', join(bundle, 'rootfs/busybox')]);
    execFileSync('umoci', ['repack', '--image', `${layout}:made`, bundle]);
    execFileSync('skopeo', [
      'copy',
      '-q',
      '--dest-tls-verify=false',
      `oci:${layout}:made`,
      `docker://${registry.address}/umoci:latest`,
    ]);
    const id = await test.images.pull(`${registry.address}/umoci`);
    await test.images.rootfs.prepare('c', id, { readonly: true });
    expect(
      readFileSync(join(await test.images.rootfs.mount('c'), 'busybox')).equals(readFileSync('/bin/busybox')),
    ).toBe(true);
  });

  it('refuses artifacts in words', async () => {
    const layer = blobOf(Buffer.from('chart'), 'application/vnd.cncf.helm.chart.content.v1.tar+gzip');
    const config = blobOf(Buffer.from('{}'), 'application/vnd.cncf.helm.config.v1+json');
    const image = { ...(await simple('x')), config, layers: [{ ...layer, diffId: layer.digest }] };
    image.manifest = blobOf(
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: image.manifest.mediaType,
          config: { mediaType: config.mediaType, digest: config.digest, size: config.size },
          layers: [{ mediaType: layer.mediaType, digest: layer.digest, size: layer.size }],
        }),
      ),
      image.manifest.mediaType,
    );
    await pushImage(registry, 'helm', 'latest', image);
    await expect(test.images.pull(`${registry.address}/helm`)).rejects.toThrow(
      /it is an artifact .*helm.*, not a container image/,
    );
    expect(test.images.list()).toEqual([]);
  });

  it('has no such tag, no such repository: NotFound, naming it', async () => {
    await pushImage(registry, 'i', 'there', await simple('x'));
    for (const name of [`${registry.address}/i:missing`, `${registry.address}/nothing:v1`]) {
      await expect(test.images.pull(name)).rejects.toMatchObject({
        kind: 'notFound',
        message: expect.stringContaining(name),
      });
    }
  });

  it('serves one pull for requests at the same time, and the last to leave ends it', async () => {
    const image = makeImage([layerOf(await makeTar(filesLike('big', 20_000_000, 4)))]);
    await pushImage(registry, 'j', 'latest', image);
    const liar = await startLiar(async (request, response, path) => {
      await new Promise(resolve => setTimeout(resolve, 50));
      http.get(`${registry.url}${path}`, { headers: request.headers }, answer =>
        answer.pipe(response.writeHead(answer.statusCode ?? 0, answer.headers)),
      );
      return true;
    });
    const name = `${liar.address}/j`;
    const [gone, stays] = [new AbortController(), new AbortController()];
    const pulls = [gone, stays, stays].map(({ signal }) => test.images.pull(name, { signal }));
    setTimeout(() => gone.abort(), 100);
    await expect(pulls[0]).rejects.toMatchObject({ kind: 'cancelled' });
    expect(await pulls[1]).toBe(image.config.digest);
    expect(await pulls[2]).toBe(image.config.digest);
    expect(liar.requests.filter(({ path }) => path.includes(image.layers[0]?.digest ?? ''))).toHaveLength(1);
    await liar.close();
  });
});

describe('a registry with TLS', () => {
  let directory: string;
  let authority: Certificate;
  let server: Certificate;
  let registry: TestRegistry;
  let image: Image;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cri-ts-tls-'));
    authority = makeAuthority(directory);
    server = makeCertificate(directory, 'server', authority);
    registry = await startRegistry({ tls: { certificate: server.certificateFile, key: server.keyFile } });
    image = await simple('over TLS');
    await pushImage(registry, 'a', 'latest', image, { ca: authority.certificate });
  });
  afterAll(async () => {
    await registry.stop();
    rmSync(directory, { recursive: true });
  });

  it('is trusted by the CA that hosts.toml names', async () => {
    hosts(registry.address, `server = "${registry.url}"\nca = "${authority.certificateFile}"`);
    expect(await test.images.pull(`${registry.address}/a`)).toBe(image.config.digest);
  });

  it('is trusted by the certificates in docker’s layout', async () => {
    mkdirSync(join(certs, registry.address));
    writeFileSync(join(certs, registry.address, 'own.crt'), authority.certificate);
    expect(await test.images.pull(`${registry.address}/a`)).toBe(image.config.digest);
  });

  it('is not trusted otherwise, and the error says what to do', async () => {
    const wrong = makeAuthority(scratch, 'wrong');
    for (const ca of ['', `ca = "${wrong.certificateFile}"`]) {
      hosts(registry.address, `server = "${registry.url}"\n${ca}`);
      await expect(test.images.pull(`${registry.address}/a`)).rejects.toMatchObject({
        message: expect.stringMatching(
          /^RegistryUnavailable: pulling .*certificate of an unknown authority.*hosts\.toml/,
        ),
      });
    }
  });

  it('is trusted blindly with skip_verify, and on loopback without configuration', async () => {
    hosts(registry.address, `server = "${registry.url}"\nskip_verify = true`);
    await test.images.pull(`${registry.address}/a`);
    await test.images.remove(`${registry.address}/a`);
    rmSync(join(certs, registry.address), { recursive: true });
    expect(await test.images.pull(`${registry.address}/a`)).toBe(image.config.digest);
  });

  it('is shown the client certificate that it asks for', async () => {
    const client = makeCertificate(directory, 'client', authority);
    let shown: string | undefined;
    const liar = await startLiar(
      request => {
        shown = Reflect.get(request.socket, 'getPeerCertificate').call(request.socket).subject?.CN;
        return false;
      },
      { cert: server.certificate, key: server.key, requestCert: true, ca: authority.certificate } as {
        cert: string;
        key: string;
      },
    );
    liar.addImage(image, 'latest');
    hosts(
      liar.address,
      `server = "https://${liar.address}"\nca = "${authority.certificateFile}"\nclient = [["${client.certificateFile}", "${client.keyFile}"]]`,
    );
    await test.images.pull(`${liar.address}/a`);
    expect(shown).toBe('client');
    await liar.close();
  });

  it('is reached through a proxy’s tunnel', async () => {
    const asked: string[] = [];
    const proxy = http.createServer().listen(0, '127.0.0.1');
    proxy.on('connect', (request, socket) => {
      asked.push(`${request.url} ${request.headers['proxy-authorization']}`);
      const upstream = connect(Number(registry.address.split(':')[1]), '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(socket).pipe(upstream);
      });
      for (const each of [upstream, socket]) each.on('error', () => {});
    });
    await once(proxy, 'listening');
    await test.remove();
    const environment = {
      HTTPS_PROXY: `http://me:secret@127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    };
    test = await openTestImages({ registry: { configPaths: [certs] }, environment });
    hosts('far.example', `server = "https://far.example"\nskip_verify = true`);
    expect(await test.images.pull('far.example/a')).toBe(image.config.digest);
    expect(asked[0]).toBe(`far.example:443 ${basicAuthorization('me', 'secret')}`);
    proxy.closeAllConnections();
    proxy.close();
  });
});

describe('a registry with basic authorization', () => {
  let directory: string;
  let registry: TestRegistry;
  let image: Image;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cri-ts-basic-'));
    const htpasswd = join(directory, 'htpasswd');
    // user, pass:word
    writeFileSync(htpasswd, 'user:$2y$05$6DTjYBC59NyrN9MaMaLnv.f8fbFpfx7VBCfkqyOkyHd/pAN0zpfk6\n');
    registry = await startRegistry({ htpasswd });
    image = await simple('basic');
    await pushImage(registry, 'a', 'latest', image, {
      authorization: basicAuthorization('user', 'pass:word'),
    });
  });
  afterAll(async () => {
    await registry.stop();
    rmSync(directory, { recursive: true });
  });

  it('takes user and password, plain or encoded', async () => {
    await test.images.pull(`${registry.address}/a`, { auth: { username: 'user', password: 'pass:word' } });
    await test.images.remove(`${registry.address}/a`);
    const auth = Buffer.from('user:pass:word').toString('base64');
    expect(
      await test.images.pull(`${registry.address}/a`, { auth: { auth, serverAddress: registry.address } }),
    ).toBe(image.config.digest);
  });

  it('refuses others: Unauthenticated, and no password in the message', async () => {
    await expect(test.images.pull(`${registry.address}/a`)).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringMatching(/give the pod an image pull secret/),
    });
    const wrong = test.images.pull(`${registry.address}/a`, {
      auth: { username: 'user', password: 'hunter2' },
    });
    await expect(wrong).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringMatching(/check the pull secret/),
    });
    await expect(wrong).rejects.not.toThrow(/hunter2/);
  });
});

describe('a registry with token authorization', () => {
  let directory: string;
  let registry: TestRegistry;
  let image: Image;
  let issuer: http.Server;
  let issued: { url: string; authorization: string | undefined; body: string }[] = [];
  let expiresIn = 300;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'cri-ts-token-'));
    const authority = makeAuthority(directory, 'issuer');
    issuer = http.createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      issued.push({ url: request.url ?? '', authorization: request.headers.authorization, body });
      const url = new URL(request.url ?? '', 'http://x');
      const form = new URLSearchParams(body);
      const known =
        request.headers.authorization === basicAuthorization('user', 'right') ||
        form.get('refresh_token') === 'identity';
      if (!known) {
        response.writeHead(401).end('{"details":"who are you"}');
        return;
      }
      const scope = url.searchParams.get('scope') ?? form.get('scope') ?? '';
      const [type, name, actions] = scope.split(':');
      response.end(
        JSON.stringify({
          token: sign(authority, { type, name, actions: actions?.split(',') }),
          expires_in: expiresIn,
        }),
      );
    });
    issuer.listen(0, '127.0.0.1');
    await once(issuer, 'listening');
    const realm = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/token`;
    registry = await startRegistry({
      token: { realm, service: 'the registry', issuer: 'tests', bundle: authority.certificateFile },
    });
    image = makeImage([
      layerOf(await makeTar([{ name: 'text', content: 'token' }])),
      layerOf(await makeTar([{ name: 'other', content: 'x' }])),
    ]);
    const authorization = `Bearer ${sign(authority, { type: 'repository', name: 'a/b', actions: ['pull', 'push'] })}`;
    await pushImage(registry, 'a/b', 'latest', image, { authorization });
  });
  beforeEach(() => {
    issued = [];
    expiresIn = 300;
  });
  afterAll(async () => {
    await registry.stop();
    issuer.close();
    rmSync(directory, { recursive: true });
  });

  /** A JSON Web Token as the distribution specification wants it. */
  function sign(authority: Certificate, access: object): string {
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const chain = authority.certificate.replace(/-----[^-]+-----|\s/g, '');
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: 'tests',
      sub: 'user',
      aud: 'the registry',
      exp: now + 300,
      nbf: now - 10,
      iat: now,
      jti: randomUUID(),
      access: [access],
    };
    const text = `${encode({ typ: 'JWT', alg: 'ES256', x5c: [chain] })}.${encode(claims)}`;
    const signature = createSign('SHA256')
      .update(text)
      .sign({ key: authority.key, dsaEncoding: 'ieee-p1363' });
    return `${text}.${signature.toString('base64url')}`;
  }

  it('is given a token of the realm, fetched once for the whole pull', async () => {
    expect(
      await test.images.pull(`${registry.address}/a/b`, { auth: { username: 'user', password: 'right' } }),
    ).toBe(image.config.digest);
    expect(issued).toHaveLength(1);
    expect(issued[0]?.url).toBe('/token?service=the+registry&scope=repository%3Aa%2Fb%3Apull');
  });

  it('is given a token for an identity token', async () => {
    await test.images.pull(`${registry.address}/a/b`, { auth: { identityToken: 'identity' } });
    expect(Object.fromEntries(new URLSearchParams(issued[0]?.body))).toMatchObject({
      grant_type: 'refresh_token',
      service: 'the registry',
      scope: 'repository:a/b:pull',
    });
  });

  it('is given a registry token as it is', async () => {
    const { certificate, key } = {
      certificate: readFileSync(join(directory, 'issuer.crt'), 'utf8'),
      key: readFileSync(join(directory, 'issuer.key'), 'utf8'),
    };
    const registryToken = sign(
      { certificate, key, certificateFile: '', keyFile: '' },
      { type: 'repository', name: 'a/b', actions: ['pull'] },
    );
    await test.images.pull(`${registry.address}/a/b`, { auth: { registryToken } });
    expect(issued).toEqual([]);
  });

  it('is not reached with wrong credentials: Unauthenticated', async () => {
    await expect(
      test.images.pull(`${registry.address}/a/b`, { auth: { username: 'user', password: 'wrong' } }),
    ).rejects.toMatchObject({
      kind: 'unauthenticated',
      message: expect.stringMatching(/token server .* did not accept the credentials .*who are you/),
    });
    await expect(
      test.images.pull(`${registry.address}/a/b`, { auth: { registryToken: 'expired' } }),
    ).rejects.toMatchObject({ kind: 'unauthenticated' });
  });
});

describe('mirrors in hosts.toml', () => {
  let registry: TestRegistry;
  let mirror: Liar;
  let image: Image;
  beforeEach(async () => {
    registry = await startRegistry();
    mirror = await startLiar();
    image = await simple('mirrored');
    await pushImage(registry, 'a', 'latest', image);
  });
  afterEach(async () => {
    await registry.stop();
    await mirror.close();
  });

  it('are asked first, and told which registry they stand for', async () => {
    mirror.addImage(image, 'latest');
    hosts(
      'up.example',
      `server = "https://up.example"\n[host."http://${mirror.address}"]\n[host."http://${mirror.address}".header]\nx-team = "storage"`,
    );
    await test.images.pull('up.example/a');
    expect(mirror.requests.length).toBeGreaterThan(2);
    expect(
      mirror.requests.every(
        ({ path, headers }) => path.includes('ns=up.example') && headers['x-team'] === 'storage',
      ),
    ).toBe(true);
    expect(test.images.list()[0]?.repoTags).toEqual(['up.example/a:latest']);
  });

  it('give way to the next host when they have not the image, answer 5xx, or are gone', async () => {
    hosts(
      'up.example',
      `server = "${registry.url}"\n[host."http://127.0.0.1:1"]\n[host."http://${mirror.address}"]`,
    );
    expect(await test.images.pull('up.example/a')).toBe(image.config.digest);
    expect(mirror.requests.length).toBeGreaterThan(0);
  });

  it('without "resolve" serve blobs only', async () => {
    mirror.addImage(image, 'latest');
    hosts(
      'up.example',
      `server = "${registry.url}"\n[host."http://${mirror.address}"]\ncapabilities = ["pull"]`,
    );
    await test.images.pull('up.example/a');
    expect(mirror.requests.some(({ path }) => path.includes('/manifests/latest'))).toBe(false);
    expect(mirror.requests.some(({ path }) => path.includes('/blobs/'))).toBe(true);
  });

  it('with override_path are asked at the path as it is', async () => {
    mirror.addImage(image, 'latest');
    hosts('up.example', `[host."http://${mirror.address}/odd/root"]\noverride_path = true`);
    await test.images.pull('up.example/a');
    expect(mirror.requests.every(({ path }) => path.startsWith('/odd/root/a/'))).toBe(true);
  });
});

it('what is pulled hashes to what the registry holds', async () => {
  const registry = await startRegistry();
  try {
    const image = makeImage([layerOf(await makeTar(filesLike('a', 5_000_000, 8)))]);
    await pushImage(registry, 'a', 'latest', image);
    await test.images.pull(`${registry.address}/a`);
    for (const name of readdirSync(join(test.root, 'content/blobs/sha256'))) {
      const bytes = readFileSync(join(test.root, 'content/blobs/sha256', name));
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(name);
    }
    expect(existsSync(join(test.root, 'content/ingest'))).toBe(true);
    expect(readdirSync(join(test.root, 'content/ingest'))).toEqual([]);
    expect(await test.images.verify()).toEqual([]);
  } finally {
    await registry.stop();
  }
});
