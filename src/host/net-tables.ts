// Reads the kernel's network tables of one network namespace, through the programs that a person would use: ip, bridge,
// iptables-save, nft. For commands that show a node to people; the daemon itself does not read them.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { CriError } from '../errors.ts';
import { run } from './process.ts';

const addressSchema = z.object({
  family: z.string(),
  local: z.string(),
  prefixlen: z.number(),
  scope: z.string().default(''),
});

const linkSchema = z.object({
  ifindex: z.number(),
  ifname: z.string(),
  /** Of a veth: its peer's ifindex; of a macvlan or VXLAN: the device under it. */
  link_index: z.number().optional(),
  /** That device by its name, when it is in the same namespace. */
  link: z.string().nullish(),
  /** The bridge that this is a port of. */
  master: z.string().optional(),
  mtu: z.number(),
  operstate: z.string().default('UNKNOWN'),
  flags: z.array(z.string()).default([]),
  address: z.string().default(''),
  addr_info: z.array(z.unknown()).default([]),
  linkinfo: z
    .object({ info_kind: z.string().default(''), info_data: z.unknown() })
    .partial()
    .optional(),
});

const routeSchema = z.object({
  type: z.string().optional(),
  dst: z.string(),
  gateway: z.string().optional(),
  dev: z.string().optional(),
  prefsrc: z.string().optional(),
  metric: z.number().optional(),
  flags: z.array(z.string()).default([]),
});

const neighbourSchema = z.object({
  dst: z.string().default(''),
  dev: z.string().default(''),
  lladdr: z.string().optional(),
  state: z.array(z.string()).default([]),
});

const fdbSchema = z.object({
  mac: z.string().default(''),
  ifname: z.string().default(''),
  /** Of a VXLAN device: the node that has this hardware address. */
  dst: z.string().optional(),
  master: z.string().optional(),
  state: z.string().optional(),
});

const vxlanSchema = z.object({
  id: z.number(),
  local: z.string().optional(),
  local6: z.string().optional(),
  link: z.string().optional(),
  port: z.number().default(8472),
});

export interface Link {
  index: number;
  name: string;
  /** The kernel's name of what it is: veth, bridge, vxlan, macvlan, ...; empty for devices of hardware and loopback. */
  kind: string;
  mac: string;
  mtu: number;
  up: boolean;
  master: string | undefined;
  /** ifindex of the other end of a veth, or of the device under it. */
  linkIndex: number | undefined;
  /** Address and prefix length, link-local ones left out. */
  addresses: string[];
  vxlan: z.infer<typeof vxlanSchema> | undefined;
}

export type Route = z.infer<typeof routeSchema>;
export type Neighbour = z.infer<typeof neighbourSchema>;
export type FdbEntry = z.infer<typeof fdbSchema>;

/** What a pod's own namespace has. */
export interface PodTables {
  links: Link[];
  /** IPv4 first. */
  routes: Route[];
}

/** What a node's namespace has besides. */
export interface NodeTables extends PodTables {
  forwarding: { ipv4: boolean; ipv6: boolean };
  neighbours: Neighbour[];
  fdb: FdbEntry[];
  /** Output of iptables-save and of ip6tables-save; empty when there is no such program. */
  iptables: string;
  ip6tables: string;
  /** Members of the list that `nft -j list ruleset` prints; empty when there is no such program. */
  nft: unknown[];
}

/** @throws CriError unavailable when `ip` cannot be run there */
export async function readPodTables(netns: string): Promise<PodTables> {
  const [links, routes4, routes6] = await Promise.all([
    json(netns, ['ip', '-j', '-d', 'addr', 'show'], linkSchema),
    json(netns, ['ip', '-j', '-4', 'route', 'show'], routeSchema),
    json(netns, ['ip', '-j', '-6', 'route', 'show'], routeSchema),
  ]);
  const isLocal = ({ dst }: Route) => dst.startsWith('fe80:') || dst.startsWith('ff00:');
  return { links: links.map(toLink), routes: [...routes4, ...routes6.filter(route => !isLocal(route))] };
}

/** @throws CriError unavailable when `ip` cannot be run there */
export async function readNodeTables(netns: string): Promise<NodeTables> {
  const [own, neighbours, fdb, iptables, ip6tables, nft, ipv4, ipv6] = await Promise.all([
    readPodTables(netns),
    json(netns, ['ip', '-j', 'neigh', 'show'], neighbourSchema),
    json(netns, ['bridge', '-j', 'fdb', 'show'], fdbSchema).catch(() => []),
    optional(netns, ['iptables-save']),
    optional(netns, ['ip6tables-save']),
    optional(netns, ['nft', '-j', 'list', 'ruleset']),
    optional(netns, ['cat', '/proc/sys/net/ipv4/ip_forward']),
    optional(netns, ['cat', '/proc/sys/net/ipv6/conf/all/forwarding']),
  ]);
  return {
    ...own,
    neighbours,
    fdb,
    iptables,
    ip6tables,
    nft: nft === '' ? [] : z.object({ nftables: z.array(z.unknown()) }).parse(JSON.parse(nft)).nftables,
    forwarding: { ipv4: ipv4.trim() === '1', ipv6: ipv6.trim() === '1' },
  };
}

export interface RouteQuery {
  to: string;
  /** With `iif`: the lookup for a packet that came from there by that device. */
  from?: string | undefined;
  iif?: string | undefined;
}

/** The kernel's own choice of a route (`ip route get`), or its words when there is none. */
export async function routeGet(
  netns: string,
  { to, from, iif }: RouteQuery,
): Promise<{ route: Route; command: string } | { problem: string; command: string }> {
  const question = [
    to,
    ...(from === undefined ? [] : ['from', from]),
    ...(iif === undefined ? [] : ['iif', iif]),
  ];
  const command = `ip route get ${question.join(' ')}`;
  const result = await inNetns(netns, ['ip', '-j', 'route', 'get', ...question]);
  if (result.exitCode !== 0) {
    return { problem: result.stderr.trim().replace(/^RTNETLINK answers: /, '') || result.outcome, command };
  }
  const [route] = z.array(routeSchema).parse(JSON.parse(result.stdout));
  return route ? { route, command } : { problem: 'the kernel named no route', command };
}

/** The name under /run/netns of the namespace at `path` (such as /proc/PID/ns/net); undefined when it has none there. */
export function netnsName(path: string, directory = '/run/netns'): string | undefined {
  try {
    const { dev, ino } = statSync(path);
    return readdirSync(directory).find(name => {
      const found = statSync(join(directory, name), { throwIfNoEntry: false });
      return found?.ino === ino && found.dev === dev;
    });
  } catch {
    return undefined;
  }
}

function inNetns(netns: string, command: readonly string[]) {
  return run('nsenter', [`--net=${netns}`, ...command], { timeoutMs: 60_000, maxOutputBytes: 32 << 20 });
}

async function json<T>(netns: string, command: readonly string[], schema: z.ZodType<T>): Promise<T[]> {
  const result = await undisturbed(netns, command);
  const failed = (how: string) =>
    new CriError('unavailable', `"${command.join(' ')}" in network namespace ${netns} ${how}`);
  if (result.exitCode !== 0) throw failed(`failed: ${result.outcome}: ${result.stderr.trim()}`);
  const found = z.array(z.unknown()).parse(JSON.parse(result.stdout.trim() || '[]'));
  return found.filter(isEntry).map(entry => {
    const parsed = schema.safeParse(entry);
    if (parsed.success) return parsed.data;
    throw failed(
      `printed what is not understood: ${JSON.stringify(entry)}: ${z.prettifyError(parsed.error)}`,
    );
  });
}

/** iproute prints empty objects for what it leaves out. */
function isEntry(entry: unknown): boolean {
  return typeof entry !== 'object' || entry === null || Object.keys(entry).length > 0;
}

/** A table that changed while the kernel listed it may lack entries; the tools only say so, and end well. */
async function undisturbed(netns: string, command: readonly string[]) {
  let result = await inNetns(netns, command);
  for (let again = 0; again < 5 && result.stderr.includes('interrupted'); again++)
    result = await inNetns(netns, command);
  return result;
}

async function optional(netns: string, command: readonly string[]): Promise<string> {
  const { exitCode, stdout } = await inNetns(netns, command);
  return exitCode === 0 ? stdout : '';
}

function toLink(link: z.infer<typeof linkSchema>): Link {
  const kind = link.linkinfo?.info_kind ?? '';
  const addresses = link.addr_info
    .map(info => addressSchema.safeParse(info).data)
    .filter(info => info !== undefined)
    .filter(({ family, scope }) => family.startsWith('inet') && !(family === 'inet6' && scope === 'link'));
  return {
    index: link.ifindex,
    name: link.ifname,
    kind,
    mac: link.address,
    mtu: link.mtu,
    up: link.operstate === 'UP' || (link.operstate === 'UNKNOWN' && link.flags.includes('UP')),
    master: link.master,
    linkIndex: link.link_index,
    addresses: addresses.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    vxlan: kind === 'vxlan' ? vxlanSchema.safeParse(link.linkinfo?.info_data).data : undefined,
  };
}
