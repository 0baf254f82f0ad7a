// Results of ADD in every version of the specification (section 5 and its predecessors), both ways:
// decodeResult reads any of them into the form of 1.1.0, encodeResult writes that form as any of them.
//   0.1.0, 0.2.0   ip4 and ip6, one address each, with their routes
//   0.3.0 - 0.4.0  interfaces, ips (each says its IP version), routes
//   1.0.0, 1.1.0   the same without the IP version; 1.1.0 adds fields to interfaces and routes
import { isIP } from 'node:net';
import { z } from 'zod';
import { messageOf } from '../errors.ts';
import { CniError } from './errors.ts';
import { atLeast, currentVersion, isSpecVersion, type SpecVersion } from './versions.ts';

/** An interface that an attachment created, in the container or on the host. */
export interface ResultInterface {
  name: string;
  mac?: string;
  mtu?: number;
  /** Path of the network namespace; absent for an interface on the host. */
  sandbox?: string;
  socketPath?: string;
  pciID?: string;
}

export interface ResultIP {
  /** Address and prefix length, such as 10.1.0.5/16. */
  address: string;
  gateway?: string;
  /** Index into `interfaces`. */
  interface?: number;
}

export interface ResultRoute {
  /** Destination in CIDR notation. */
  dst: string;
  gw?: string;
  mtu?: number;
  advmss?: number;
  priority?: number;
  table?: number;
  scope?: number;
}

export interface ResultDNS {
  nameservers?: string[];
  domain?: string;
  search?: string[];
  options?: string[];
}

/** The result of an attachment, in the form of version 1.1.0 whatever the plugins speak. */
export interface Result {
  cniVersion: typeof currentVersion;
  interfaces: ResultInterface[];
  ips: ResultIP[];
  routes: ResultRoute[];
  dns: ResultDNS;
}

/** A result as it goes over the wire in some version. */
export type EncodedResult = { cniVersion: SpecVersion } & Record<string, unknown>;

const cidr = z.string().refine(isCidr, 'must be an IP address with its prefix length');
// An empty string or null is how some plugins write an absent value.
const text = optional(z.string());
const address = optional(
  z.string().refine(value => value === '' || isIP(value) !== 0, 'must be an IP address'),
);
const count = optional(z.number().int().nonnegative());
const texts = optional(z.array(z.string()));

const routeSchema = z
  .object({ dst: cidr, gw: address, mtu: count, advmss: count, priority: count, table: count, scope: count })
  .transform(({ dst, ...rest }): ResultRoute => ({ dst, ...present(rest) }));
const routesSchema = list(routeSchema);

const dnsSchema = z
  .object({ nameservers: texts, domain: text, search: texts, options: texts })
  .nullish()
  .transform((dns): ResultDNS => (dns ? present(dns) : {}));

const interfaceSchema = z
  .object({ name: z.string(), mac: text, mtu: count, sandbox: text, socketPath: text, pciID: text })
  .transform(({ name, ...rest }): ResultInterface => ({ name, ...present(rest) }));

const ipSchema = z
  .object({ address: cidr, gateway: address, interface: count })
  .transform(({ address, ...rest }): ResultIP => ({ address, ...present(rest) }));

const legacyIpSchema = z.object({ ip: cidr, gateway: address, routes: routesSchema }).nullish();

const resultSchema = z
  .object({
    interfaces: list(interfaceSchema),
    ips: list(ipSchema),
    routes: routesSchema,
    dns: dnsSchema,
    ip4: legacyIpSchema,
    ip6: legacyIpSchema,
  })
  .refine(
    result => result.ips.every(ip => ip.interface === undefined || ip.interface < result.interfaces.length),
    'an address names an interface that is not in `interfaces`',
  );

/**
 * Reads a result of any version. One without cniVersion counts as `versionWhenAbsent`: the version it was asked in.
 * The form decides rather than the version: there are plugins (loopback of the reference plugins 1.1.1) that
 * answer a request of 0.2.0 with the fields of 1.0.0.
 * @throws CniError invalid-result
 */
export function decodeResult(value: unknown): Result {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CniError('invalid-result', `is not a JSON object but ${describe(value)}`);
  }
  const version = 'cniVersion' in value ? value.cniVersion : undefined;
  if (version && !(typeof version === 'string' && isSpecVersion(version))) {
    throw new CniError('invalid-result', `has the unknown cniVersion ${JSON.stringify(version)}`);
  }
  if ('code' in value && 'msg' in value && !('ips' in value || 'ip4' in value || 'ip6' in value)) {
    throw new CniError(
      'invalid-result',
      `is an error though the plugin ended well: ${JSON.stringify(value)}`,
    );
  }
  const parsed = resultSchema.safeParse(value);
  if (!parsed.success) {
    const words = parsed.error.issues.map(issue =>
      [issue.path.join('.'), issue.message].filter(Boolean).join(': '),
    );
    throw new CniError('invalid-result', `is not a CNI result: ${words.join('; ')}`);
  }
  const { ip4, ip6, ...rich } = parsed.data;
  const result: Result = { cniVersion: currentVersion, ...rich };
  for (const legacy of [ip4, ip6]) {
    if (!legacy) continue;
    result.ips.push({ address: legacy.ip, ...present({ gateway: legacy.gateway }) });
    result.routes.push(...legacy.routes);
  }
  return result;
}

/** Reads the standard output of a plugin's ADD. @throws CniError invalid-result */
export function parseResult(stdout: string): Result {
  if (stdout.trim() === '') throw new CniError('invalid-result', 'is empty');
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch (thrown) {
    throw new CniError('invalid-result', `is not JSON (${messageOf(thrown)}): ${excerpt(stdout)}`);
  }
  return decodeResult(value);
}

/**
 * Writes a result in the form of `version`. What the version cannot say is left out: before 1.0.0 the new
 * fields of interfaces; before 0.3.0 the interfaces, all but the first address of each family, and routes of a family
 * that has no address.
 */
export function encodeResult(result: Result, version: SpecVersion): EncodedResult {
  if (!atLeast(version, '0.3.0')) return encodeLegacy(result, version);
  const rich = atLeast(version, '1.0.0');
  return {
    cniVersion: version,
    ...nonEmpty({
      interfaces: rich
        ? result.interfaces
        : result.interfaces.map(({ name, mac, sandbox }) => ({ name, ...present({ mac, sandbox }) })),
      ips: rich ? result.ips : result.ips.map(ip => ({ version: family(ip.address), ...ip })),
      routes: result.routes,
    }),
    ...dnsOf(result),
  };
}

function encodeLegacy(result: Result, version: SpecVersion): EncodedResult {
  const ipOf = (wanted: '4' | '6') => {
    const first = result.ips.find(ip => family(ip.address) === wanted);
    if (first === undefined) return undefined;
    const routes = result.routes
      .filter(route => family(route.dst) === wanted)
      .map(({ dst, gw }) => ({ dst, ...present({ gw }) }));
    return { ip: first.address, ...present({ gateway: first.gateway }), ...nonEmpty({ routes }) };
  };
  return { cniVersion: version, ...present({ ip4: ipOf('4'), ip6: ipOf('6') }), ...dnsOf(result) };
}

/**
 * The addresses of a container, without prefix length, in the order of its attachments and of the plugins' results:
 * not those of interfaces on the host, nor of loopback.
 */
export function containerAddresses(attachments: readonly { ifName: string; result: Result }[]): string[] {
  return attachments
    .filter(({ ifName }) => ifName !== 'lo')
    .flatMap(({ result }) =>
      result.ips.filter(
        ip => ip.interface === undefined || Boolean(result.interfaces[ip.interface]?.sandbox),
      ),
    )
    .map(ip => ip.address.replace(/\/.*$/, ''));
}

function dnsOf(result: Result): { dns?: ResultDNS } {
  return Object.keys(result.dns).length === 0 ? {} : { dns: result.dns };
}

function family(cidrOrAddress: string): '4' | '6' {
  return cidrOrAddress.includes(':') ? '6' : '4';
}

function isCidr(value: string): boolean {
  const [ip = '', prefix = '', ...rest] = value.split('/');
  const version = isIP(ip);
  return (
    version !== 0 &&
    rest.length === 0 &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (version === 4 ? 32 : 128)
  );
}

function optional<S extends z.ZodType>(schema: S) {
  return schema.nullish().transform(value => (value === '' || value === null ? undefined : value));
}

function list<S extends z.ZodType>(schema: S) {
  return z
    .array(schema)
    .nullish()
    .transform(value => value ?? []);
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The object without its undefined members. */
function present<T extends Record<string, unknown>>(object: T): Present<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Present<T>;
}

function nonEmpty<T extends Record<string, readonly unknown[]>>(lists: T): Partial<T> {
  return Object.fromEntries(Object.entries(lists).filter(([, value]) => value.length > 0)) as Partial<T>;
}

function describe(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

/** The beginning of a text that may be long, quoted for a message. */
export function excerpt(value: string): string {
  const limit = 300;
  return JSON.stringify(value.length > limit ? `${value.slice(0, limit)}...` : value);
}
