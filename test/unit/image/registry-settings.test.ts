import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseChallenges, readCredentials } from '../../../src/image/registry/auth.ts';
import { registryHosts } from '../../../src/image/registry/hosts.ts';
import { proxyFor, proxyFromEnvironment } from '../../../src/image/registry/proxy.ts';

describe('hosts.toml', () => {
  let base: string;
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'cri-ts-certs-'));
  });
  afterEach(() => rmSync(base, { recursive: true }));

  function write(registry: string, files: Record<string, string>): void {
    mkdirSync(join(base, registry), { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(base, registry, name), text);
  }

  it('gives the hosts in the order of the file, the server last', async () => {
    write('registry.example', {
      'hosts.toml': `
server = "https://upstream.example"
skip_verify = true
[host."https://zebra.example/proxy"]
  capabilities = ["pull"]
[host."http://alpha.example:8080/v2"]
  capabilities = ["pull", "resolve"]
  dial_timeout = "1m30s"
[host."https://odd.example/custom/root"]
  override_path = true
  [host."https://odd.example/custom/root".header]
    x-one = "1"
    x-two = ["a", "b"]
`,
    });
    const hosts = await registryHosts('registry.example', [base]);
    expect(
      hosts.map(({ scheme, host, path, canPull, canResolve }) => [
        `${scheme}://${host}${path}`,
        canPull,
        canResolve,
      ]),
    ).toEqual([
      ['https://zebra.example/proxy/v2', true, false],
      ['http://alpha.example:8080/v2', true, true],
      ['https://odd.example/custom/root', true, true],
      ['https://upstream.example/v2', true, true],
    ]);
    expect(hosts[1]?.dialTimeoutMs).toBe(90_000);
    expect(hosts[2]?.headers).toEqual([
      ['x-one', '1'],
      ['x-two', 'a'],
      ['x-two', 'b'],
    ]);
    expect(hosts[3]?.tls.skipVerify).toBe(true);
    expect(hosts[0]?.tls.skipVerify).toBe(false);
  });

  it('reads CA and client certificates beside the file, as one file, several, or pairs', async () => {
    write('r.example', {
      'hosts.toml': 'ca = ["a.crt", "b.crt"]\nclient = ["both.pem", ["both.pem", ""], ["c.cert", "c.key"]]',
      'a.crt': 'A',
      'b.crt': 'B',
      'both.pem': 'BOTH',
      'c.cert': 'CERT',
      'c.key': 'KEY',
    });
    const [host] = await registryHosts('r.example', [base]);
    expect(host?.host).toBe('r.example');
    expect(host?.tls).toEqual({
      ca: ['A', 'B'],
      client: [
        { cert: 'BOTH', key: 'BOTH' },
        { cert: 'BOTH', key: 'BOTH' },
        { cert: 'CERT', key: 'KEY' },
      ],
      skipVerify: false,
    });
  });

  it('takes the certificates of docker where there is no hosts.toml', async () => {
    write('r.example', { 'ca.crt': 'CA', 'client.cert': 'CERT', 'client.key': 'KEY' });
    const [host] = await registryHosts('r.example', [base]);
    expect(host?.tls).toEqual({ ca: ['CA'], client: [{ cert: 'CERT', key: 'KEY' }], skipVerify: false });
  });

  it('finds a registry with a port under HOST_PORT_, and _default for others', async () => {
    write('r.example_5000_', { 'hosts.toml': 'server = "https://with-port.example"' });
    write('_default', { 'hosts.toml': 'server = "https://default.example"' });
    expect((await registryHosts('r.example:5000', [base]))[0]?.host).toBe('with-port.example');
    expect((await registryHosts('other.example', [base]))[0]?.host).toBe('default.example');
  });

  it('names the file and the fault when it cannot be used', async () => {
    write('r.example', { 'hosts.toml': 'server = "https://x"\nskip_verify = "yes"' });
    await expect(registryHosts('r.example', [base])).rejects.toThrow(/hosts\.toml is not valid: skip_verify/);
    write('r.example', { 'hosts.toml': 'capabilities = ["fly"]' });
    await expect(registryHosts('r.example', [base])).rejects.toThrow(/capability "fly"/);
    write('r.example', { 'hosts.toml': 'ca = "missing.crt"' });
    await expect(registryHosts('r.example', [base])).rejects.toThrow(/missing\.crt does not exist/);
    write('r.example', { 'hosts.toml': 'client = [["", ""]]' });
    await expect(registryHosts('r.example', [base])).rejects.toThrow(
      /hosts\.toml is not valid: .*cannot be read/,
    );
    write('r.example', { 'hosts.toml': 'server = ' });
    await expect(registryHosts('r.example', [base])).rejects.toThrow(/hosts\.toml is not valid/);
  });

  it('knows Docker Hub and loopback without any file', async () => {
    expect((await registryHosts('docker.io', []))[0]).toMatchObject({
      scheme: 'https',
      host: 'registry-1.docker.io',
      plainFallback: false,
    });
    expect((await registryHosts('127.0.0.1:5000', []))[0]).toMatchObject({
      scheme: 'https',
      plainFallback: true,
    });
    expect((await registryHosts('10.0.0.1:5000', []))[0]).toMatchObject({
      scheme: 'https',
      plainFallback: false,
      tls: { skipVerify: false },
    });
  });
});

describe('proxies from the environment', () => {
  const of = (url: string, environment: NodeJS.ProcessEnv) =>
    proxyFor(new URL(url), proxyFromEnvironment(environment))?.href;

  it('goes by the scheme, in either case of letters', () => {
    expect(of('https://r.example/', { HTTPS_PROXY: 'http://p:3128' })).toBe('http://p:3128/');
    expect(of('http://r.example/', { http_proxy: 'p:3128' })).toBe('http://p:3128/');
    expect(of('http://r.example/', { HTTPS_PROXY: 'http://p:3128' })).toBeUndefined();
  });

  it.each([
    ['https://r.example/', 'r.example'],
    ['https://a.r.example/', 'r.example'],
    ['https://a.r.example/', '.r.example'],
    ['https://a.r.example/', '*.r.example'],
    ['https://10.1.2.3/', '10.0.0.0/8'],
    ['https://r.example:5000/', 'r.example:5000'],
    ['https://r.example/', ' x , *'],
  ])('leaves out %s for NO_PROXY=%s', (url, no) => {
    expect(of(url, { HTTPS_PROXY: 'http://p', NO_PROXY: no })).toBeUndefined();
  });

  it.each([
    ['https://other.example/', 'r.example'],
    ['https://r.example/', '.r.example'],
    ['https://r.example/', 'r.example:5000'],
    ['https://11.1.2.3/', '10.0.0.0/8'],
  ])('uses it for %s despite NO_PROXY=%s', (url, no) => {
    expect(of(url, { HTTPS_PROXY: 'http://p', NO_PROXY: no })).toBe('http://p/');
  });

  it('never sends loopback through a proxy', () => {
    expect(of('http://127.0.0.1:5000/', { HTTP_PROXY: 'http://p' })).toBeUndefined();
    expect(of('http://localhost:5000/', { HTTP_PROXY: 'http://p' })).toBeUndefined();
  });
});

describe('credentials', () => {
  it('come as user and password, encoded, or as tokens', () => {
    expect(readCredentials({ username: 'u', password: 'p' }, 'h')).toEqual({ username: 'u', password: 'p' });
    expect(readCredentials({ auth: Buffer.from('u:p:q').toString('base64') }, 'h')).toEqual({
      username: 'u',
      password: 'p:q',
    });
    expect(readCredentials({ identityToken: 't' }, 'h')).toEqual({ identityToken: 't' });
    expect(readCredentials({ registryToken: 't' }, 'h')).toEqual({ registryToken: 't' });
    expect(readCredentials({}, 'h')).toBeUndefined();
    expect(() => readCredentials({ auth: 'bm9jb2xvbg==' }, 'h')).toThrow(/not base64 of user:password/);
  });

  it('are not for another server than they name', () => {
    expect(readCredentials({ username: 'u', serverAddress: 'other.example' }, 'h.example')).toBeUndefined();
    expect(
      readCredentials({ username: 'u', serverAddress: 'https://h.example/v1/' }, 'h.example'),
    ).toBeDefined();
    expect(
      readCredentials({ username: 'u', serverAddress: 'https://index.docker.io/v1/' }, 'docker.io'),
    ).toBeDefined();
  });
});

describe('challenges', () => {
  it('are read with quoted values, commas in them, and several in one header', () => {
    const [bearer, basic] = parseChallenges(
      'Bearer realm="https://a/t?x=1,2",service="s\\"q",scope="repository:a:pull", Basic realm="r"',
    );
    expect(bearer?.scheme).toBe('bearer');
    expect([...(bearer?.parameters ?? [])]).toEqual([
      ['realm', 'https://a/t?x=1,2'],
      ['service', 's"q'],
      ['scope', 'repository:a:pull'],
    ]);
    expect(basic).toMatchObject({ scheme: 'basic' });
  });

  it('of unknown schemes are passed over', () => {
    expect(parseChallenges('Negotiate, Digest realm="x"')).toEqual([]);
    expect(parseChallenges('')).toEqual([]);
  });
});
