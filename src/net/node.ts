// A node's network as it is now: what the daemon says of its pods, laid over what the kernel says of their namespaces and
// of the node's. Everything that `cri-ts net` shows is read from this.
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { z } from 'zod';
import type { RuntimeClient } from '../cri-api/client.ts';
import type { PodSandbox } from '../cri-api/types.ts';
import { CriError, messageOf } from '../errors.ts';
import {
  type Link,
  type NodeTables,
  netnsName,
  type PodTables,
  readNodeTables,
  readPodTables,
} from '../host/net-tables.ts';
import { allRules, type Iptables, type IptablesRule, parseIptables } from './firewall/iptables.ts';
import { type Nft, type NftRule, nftRuleText, parseNft } from './firewall/nft.ts';
import { inPrefix } from './firewall/packet.ts';

/** One interface of a pod, and where its other end is. */
export interface PodInterface {
  name: string;
  kind: string;
  mac: string;
  mtu: number;
  up: boolean;
  /** With prefix lengths. */
  addresses: string[];
  /** The other end of its cable, in the node's namespace. */
  host: { name: string; mac: string; bridge: string | undefined } | undefined;
  /** Of a macvlan and its like: the node's device under it. */
  over: string | undefined;
}

/** One network of a pod: the file that asked for it, the plugins that made it, what they answered. */
export interface PodAttachment {
  network: string;
  ifName: string;
  file: string | undefined;
  plugins: { plugin: string; ms: number }[];
  result: unknown;
}

export interface PodRules {
  masquerade: string[];
  portMapping: string[];
  other: string[];
}

export interface PodNetwork {
  id: string;
  name: string;
  namespace: string;
  ready: boolean;
  /** Path of its network namespace; null when it uses the node's. */
  netns: string | null;
  /** Why its namespace could not be read, though the pod is ready. */
  problem: string | undefined;
  ips: string[];
  interfaces: PodInterface[];
  /** As `ip route` would print them. */
  routes: string[];
  attachments: PodAttachment[];
  rules: PodRules;
}

export interface NodeNetwork {
  /** The name of its network namespace, else the host's. */
  name: string;
  socket: string;
  netns: string;
  pods: PodNetwork[];
  tables: NodeTables;
  iptables: { ipv4: Iptables; ipv6: Iptables };
  nft: Nft;
}

const daemonSchema = z.object({ pid: z.number().int().positive() });
const pluginRunSchema = z.object({
  plugin: z.string(),
  network: z.string(),
  ifName: z.string(),
  ms: z.number(),
});
const podInfoSchema = z.object({
  netNamespace: z.string().nullable(),
  cniResult: z
    .array(
      z.object({ network: z.string(), ifName: z.string(), file: z.string().optional(), result: z.unknown() }),
    )
    .default([]),
  pluginRuns: z.array(pluginRunSchema).default([]),
});

/** @throws CriError unavailable when the daemon does not answer or the tables cannot be read */
export async function readNode(client: RuntimeClient): Promise<NodeNetwork> {
  const node = await readOnce(client);
  // The node's tables are read before the pods': of a pod that came up in between, or went, the cable has one end.
  const isHalf = ({ kind, host }: PodInterface) => kind === 'veth' && host === undefined;
  return node.pods.some(({ interfaces }) => interfaces.some(isHalf)) ? readOnce(client) : node;
}

async function readOnce(client: RuntimeClient): Promise<NodeNetwork> {
  const [{ info }, { items }] = await Promise.all([
    client.call('Status', { verbose: true }),
    client.call('ListPodSandbox'),
  ]);
  const { pid } = daemonSchema.parse(JSON.parse(info.daemon ?? '{}'));
  const netns = `/proc/${pid}/ns/net`;
  const tables = await readNodeTables(netns);
  const iptables = { ipv4: parseIptables(tables.iptables), ipv6: parseIptables(tables.ip6tables) };
  const nft = parseNft(tables.nft, (family, table) =>
    (family === 'ip' ? iptables.ipv4 : family === 'ip6' ? iptables.ipv6 : new Map()).has(table),
  );
  const firewall = [...allRules(iptables.ipv4), ...allRules(iptables.ipv6)];
  const sorted = [...items].sort((a, b) => (BigInt(a.createdAt) < BigInt(b.createdAt) ? -1 : 1));
  const pods: PodNetwork[] = [];
  const atOnce = 8; // each pod costs a few helper programs
  for (let at = 0; at < sorted.length; at += atOnce) {
    const some = sorted.slice(at, at + atOnce);
    const read = some.map(pod => readPod(client, pod, tables.links, firewall, nft.rules));
    pods.push(...(await Promise.all(read)).filter(pod => pod !== undefined));
  }
  return {
    name: netnsName(netns) ?? hostname(),
    socket: client.socketPath,
    netns,
    pods,
    tables,
    iptables,
    nft,
  };
}

/** undefined: it was removed meanwhile. */
async function readPod(
  client: RuntimeClient,
  { id, metadata, state }: PodSandbox,
  nodeLinks: readonly Link[],
  firewall: readonly IptablesRule[],
  nftRules: readonly NftRule[],
): Promise<PodNetwork | undefined> {
  const answer = await client
    .call('PodSandboxStatus', { podSandboxId: id, verbose: true })
    .catch(error => failUnless(error instanceof CriError && error.kind === 'notFound', undefined, error));
  if (!answer) return undefined;
  const { status, info } = answer;
  const { netNamespace, cniResult, pluginRuns } = podInfoSchema.parse(JSON.parse(info.info ?? '{}'));
  const ready = state === 'SANDBOX_READY';
  // The namespace of a pod that is not ready is gone; that of one that is ready may have been taken from it.
  let tables: PodTables = { links: [], routes: [] };
  let problem: string | undefined;
  if (netNamespace !== null && ready) {
    tables = await readPodTables(netNamespace).catch(error => {
      problem = messageOf(error);
      return tables;
    });
  }
  const ips = [
    status?.network?.ip ?? '',
    ...(status?.network?.additionalIps ?? []).map(({ ip }) => ip),
  ].filter(ip => ip !== '');
  return {
    id,
    name: metadata?.name ?? '',
    namespace: metadata?.namespace ?? '',
    ready,
    netns: netNamespace,
    problem,
    ips,
    interfaces: tables.links.map(link => podInterface(link, nodeLinks)),
    routes: tables.routes.map(routeText),
    attachments: cniResult.map(({ network, ifName, file, result }) => ({
      network,
      ifName,
      file,
      plugins: pluginRuns
        .filter(run => run.network === network && run.ifName === ifName)
        .map(({ plugin, ms }) => ({ plugin, ms })),
      result,
    })),
    rules:
      netNamespace === null
        ? { masquerade: [], portMapping: [], other: [] }
        : rulesOf(id, ips, firewall, nftRules),
  };
}

function failUnless<T>(isFine: boolean, value: T, error: unknown): T {
  if (isFine) return value;
  throw error;
}

/** A veth's ends name each other by ifindex. The indexes of two namespaces overlap, so both directions must agree. */
function podInterface(link: Link, nodeLinks: readonly Link[]): PodInterface {
  const { name, kind, mac, mtu, up, addresses, linkIndex, index } = link;
  const peer =
    kind === 'veth'
      ? nodeLinks.find(
          other => other.kind === 'veth' && other.index === linkIndex && other.linkIndex === index,
        )
      : undefined;
  const under =
    kind === 'veth' || kind === '' ? undefined : nodeLinks.find(other => other.index === linkIndex);
  return {
    name,
    kind: kind === '' && name === 'lo' ? 'loopback' : kind,
    mac,
    mtu,
    up,
    addresses,
    host: peer && { name: peer.name, mac: peer.mac, bridge: peer.master },
    over: under?.name,
  };
}

/** The rules that plugins made for a pod: they say so in a comment, name its address, or stand in a chain those jump to. */
function rulesOf(
  id: string,
  ips: readonly string[],
  firewall: readonly IptablesRule[],
  nftRules: readonly NftRule[],
): PodRules {
  const rules: PodRules = { masquerade: [], portMapping: [], other: [] };
  const own = firewall.filter(
    ({ comment, words }) => comment.includes(id) || words.some(word => namesOneOf(word, ips)),
  );
  const chains = new Set(
    own.map(({ words }) => words[words.indexOf('-j') + 1] ?? '').filter(name => name.startsWith('CNI-')),
  );
  const shared = new Set(
    firewall.filter(rule => !own.includes(rule)).map(({ words }) => words[words.indexOf('-j') + 1]),
  );
  for (const rule of firewall) {
    if (!own.includes(rule) && !(chains.has(rule.chain) && !shared.has(rule.chain))) continue;
    kindOfRule(rules, `${rule.chain} ${rule.text}`, rule.comment).push(`-t ${rule.table} ${rule.text}`);
  }
  for (const rule of nftRules) {
    const text = nftRuleText(rule);
    if (!text.includes(id) && !ips.some(ip => text.split(/[\s:/[\]]+/).includes(ip))) continue;
    kindOfRule(rules, text, rule.comment ?? '').push(`nft ${text}`);
  }
  return rules;
}

function kindOfRule(rules: PodRules, text: string, comment: string): string[] {
  if (/HOSTPORT|CNI-DN-|DNAT|hostport/.test(text) || comment.startsWith('dnat ')) return rules.portMapping;
  if (/MASQUERADE|masquerade|^POSTROUTING|CNI-[0-9a-f]{24}/.test(text)) return rules.masquerade;
  return rules.other;
}

function namesOneOf(word: string, ips: readonly string[]): boolean {
  return ips.some(
    ip => word === ip || word === `${ip}/32` || word === `${ip}/128` || word.startsWith(`${ip}:`),
  );
}

/** A route as `ip route` prints it, without what is of no use to readers. */
export function routeText({ type, dst, gateway, dev, prefsrc }: PodTables['routes'][number]): string {
  return [
    ...(type === undefined || type === 'unicast' ? [] : [type]),
    dst,
    ...(gateway === undefined ? [] : ['via', gateway]),
    ...(dev === undefined ? [] : ['dev', dev]),
    ...(prefsrc === undefined ? [] : ['src', prefsrc]),
  ].join(' ');
}

/** Bridges and other devices of the node that are not one end of a pod's cable. */
export function nodeDevices({ tables, pods }: NodeNetwork): Link[] {
  const cables = new Set(pods.flatMap(({ interfaces }) => interfaces.map(({ host }) => host?.name)));
  return tables.links.filter(({ name }) => name !== 'lo' && !cables.has(name));
}

/** Whether an address is one of the node's own. */
export function isNodeAddress({ tables }: NodeNetwork, address: string): boolean {
  return (
    inPrefix(address, '127.0.0.0/8') ||
    tables.links.some(({ addresses }) => addresses.some(own => own.split('/')[0] === address))
  );
}

/** A pod's namespace by the name that `ip netns` has for it. */
export function netnsOf({ netns }: PodNetwork): string {
  return netns === null ? "the node's" : basename(netns);
}

/** What `--json` prints: everything, with rules as text. */
export function nodeJson({ name, socket, pods, tables, nft }: NodeNetwork): unknown {
  const { iptables: _4, ip6tables: _6, nft: _nft, routes, ...rest } = tables;
  return { name, socket, ...rest, routes: routes.map(routeText), nftRules: nft.rules.map(nftRuleText), pods };
}
