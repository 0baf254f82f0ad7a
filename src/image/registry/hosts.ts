// Which hosts serve a registry: containerd's `certs.d/HOST/hosts.toml` under `registry.config_path`, or the
// certificate files that docker lays out there, or the registry itself.
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { isAbsolute, join, posix } from 'node:path';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import { CriError, codeOf, messageOf } from '../../errors.ts';
import { isLoopback } from './loopback.ts';
import type { RegistryHost, TlsSettings } from './types.ts';

const defaultDialTimeoutMs = 30_000;

const oneOrMore = z
  .union([z.string(), z.array(z.string())])
  .transform(value => (Array.isArray(value) ? value : [value]));

const hostTable = z.object({
  capabilities: z.array(z.string()).optional(),
  ca: oneOrMore.optional(),
  client: z.union([z.string(), z.array(z.union([z.string(), z.tuple([z.string(), z.string()])]))]).optional(),
  skip_verify: z.boolean().optional(),
  header: z.record(z.string(), oneOrMore).optional(),
  override_path: z.boolean().optional(),
  dial_timeout: z.string().optional(),
});
type HostTable = z.infer<typeof hostTable>;

const hostsFile = hostTable.extend({
  server: z.string().optional(),
  host: z.record(z.string(), hostTable).optional(),
});

/**
 * The hosts for `registry` (`docker.io`, `10.0.0.1:5000`), in the order in which they are to be tried.
 * @param configPaths directories of `config_path`; the first that knows the registry decides.
 * @throws CriError invalidArgument naming the file and what is wrong in it.
 */
export async function registryHosts(
  registry: string,
  configPaths: readonly string[],
): Promise<RegistryHost[]> {
  const directory = findDirectory(registry, configPaths);
  if (directory === undefined) return [itself(registry, { ca: [], client: [], skipVerify: undefined })];
  const file = join(directory, 'hosts.toml');
  const text = await readOptional(file);
  if (text !== undefined && text.trim() !== '') return readHostsFile(registry, directory, file, text);
  return [itself(registry, await dockerCertificates(directory))];
}

/** `config_path/HOST`, `config_path/HOST_PORT_`, then `config_path/_default`. */
function findDirectory(registry: string, configPaths: readonly string[]): string | undefined {
  const colon = registry.lastIndexOf(':');
  const portless = colon > 0 ? `${registry.slice(0, colon)}_${registry.slice(colon + 1)}_` : registry;
  for (const base of configPaths) {
    const found = [portless, registry, '_default']
      .map(name => join(base, name))
      .find(path => existsSync(path));
    if (found !== undefined) return found;
  }
  return undefined;
}

async function readHostsFile(
  registry: string,
  directory: string,
  file: string,
  text: string,
): Promise<RegistryHost[]> {
  const refuse = (why: string): never => {
    throw new CriError('invalidArgument', `registry configuration ${file} is not valid: ${why}`);
  };
  let document: unknown;
  try {
    document = parseToml(text);
  } catch (error) {
    return refuse(messageOf(error));
  }
  const parsed = hostsFile.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return refuse(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
  }
  const { server, host, ...own } = parsed.data;
  const hosts: RegistryHost[] = [];
  for (const [url, table] of Object.entries(host ?? {})) {
    hosts.push(await readHost(url, table, directory, refuse));
  }
  if (server !== undefined && server !== '') hosts.push(await readHost(server, own, directory, refuse));
  else {
    const settings = await readTls(own, directory, refuse);
    const last = itself(registry, settings);
    hosts.push({
      ...last,
      ...capabilities(own, refuse),
      headers: headers(own),
      dialTimeoutMs: dialTimeout(own, refuse),
    });
  }
  return hosts;
}

type Refuse = (why: string) => never;

async function readHost(
  url: string,
  table: HostTable,
  directory: string,
  refuse: Refuse,
): Promise<RegistryHost> {
  const parsed = parseUrl(url.startsWith('http') ? url : `https://${url}`, refuse);
  const path = parsed.pathname === '/' ? '' : posix.normalize(parsed.pathname).replace(/\/$/, '');
  const versioned = table.override_path || path.endsWith('/v2') ? path : `${path}/v2`;
  const { ca, client, skipVerify } = await readTls(table, directory, refuse);
  return {
    scheme: parsed.protocol === 'http:' ? 'http' : 'https',
    host: parsed.host,
    path: versioned,
    ...capabilities(table, refuse),
    headers: headers(table),
    tls: { ca, client, skipVerify: skipVerify ?? false },
    dialTimeoutMs: dialTimeout(table, refuse),
    plainFallback: false,
  };
}

function parseUrl(text: string, refuse: Refuse): URL {
  const parsed = URL.canParse(text) ? new URL(text) : refuse(`${JSON.stringify(text)} is not a URL`);
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')
    refuse(`${JSON.stringify(text)} is neither http nor https`);
  return parsed;
}

function capabilities(table: HostTable, refuse: Refuse): { canResolve: boolean; canPull: boolean } {
  const named = table.capabilities;
  if (named === undefined || named.length === 0) return { canResolve: true, canPull: true };
  const known = named.map(name => name.toLowerCase());
  const unknown = known.find(name => !['pull', 'resolve', 'push', 'referrers'].includes(name));
  if (unknown !== undefined)
    refuse(`capability ${JSON.stringify(unknown)} is none of pull, resolve, push, referrers`);
  return { canResolve: known.includes('resolve'), canPull: known.includes('pull') };
}

function headers(table: HostTable): [string, string][] {
  return Object.entries(table.header ?? {}).flatMap(([name, values]) =>
    values.map((value): [string, string] => [name, value]),
  );
}

/** Go's duration notation: `1m30s`, `500ms`. */
function dialTimeout(table: HostTable, refuse: Refuse): number {
  const text = table.dial_timeout;
  if (text === undefined || text === '') return defaultDialTimeoutMs;
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const parts = [...text.matchAll(/([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(part => part[0]).join('') !== text) {
    refuse(`dial_timeout ${JSON.stringify(text)} is not a duration such as 10s`);
  }
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (units[unit ?? ''] ?? 0), 0);
}

interface FoundTls extends Omit<TlsSettings, 'skipVerify'> {
  skipVerify: boolean | undefined;
}

async function readTls(table: HostTable, directory: string, refuse: Refuse): Promise<FoundTls> {
  const read = async (name: string): Promise<string> => {
    const path = isAbsolute(name) ? name : join(directory, name);
    const text = await readOptional(path).catch(error =>
      refuse(`${path} cannot be read: ${messageOf(error)}`),
    );
    return text ?? refuse(`${path} does not exist`);
  };
  const pairs = typeof table.client === 'string' ? [table.client] : (table.client ?? []);
  return {
    ca: await Promise.all((table.ca ?? []).map(read)),
    client: await Promise.all(
      pairs.map(async pair => {
        // A single file holds both certificate and key; then the key's name may be empty.
        const [cert, key] = typeof pair === 'string' ? [pair, ''] : pair;
        return { cert: await read(cert), key: await read(key || cert) };
      }),
    ),
    skipVerify: table.skip_verify,
  };
}

/** docker's layout: `*.crt` are trusted, `*.cert` with `*.key` are client certificates. */
async function dockerCertificates(directory: string): Promise<FoundTls> {
  const names = (await readdir(directory)).sort();
  const read = (name: string) => readFile(join(directory, name), 'utf8');
  const client = names.filter(name => name.endsWith('.cert'));
  return {
    ca: await Promise.all(names.filter(name => name.endsWith('.crt')).map(read)),
    client: await Promise.all(
      client.map(async name => {
        const key = `${name.slice(0, -'.cert'.length)}.key`;
        return { cert: await read(name), key: await read(names.includes(key) ? key : name) };
      }),
    ),
    skipVerify: undefined,
  };
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** The registry by its own name. Docker Hub's API lives elsewhere; loopback registries may lack TLS. */
function itself(registry: string, { ca, client, skipVerify }: FoundTls): RegistryHost {
  const loopback = isLoopback(registry);
  const port = /:([0-9]+)$/.exec(registry)?.[1];
  return {
    scheme: loopback && port === '80' ? 'http' : 'https',
    host: registry === 'docker.io' ? 'registry-1.docker.io' : registry,
    path: '/v2',
    canResolve: true,
    canPull: true,
    headers: [],
    tls: { ca, client, skipVerify: skipVerify ?? (loopback && ca.length === 0) },
    dialTimeoutMs: defaultDialTimeoutMs,
    plainFallback: loopback && port !== undefined && port !== '443',
  };
}
