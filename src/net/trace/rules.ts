// A node's rules in a trace: what they make of the packet at each of netfilter's hooks, iptables' and nftables' together.
import { isIPv4 } from 'node:net';
import { routeGet } from '../../host/net-tables.ts';
import { walkIptables } from '../firewall/iptables.ts';
import { walkNft } from '../firewall/nft.ts';
import type { Hook, Verdict } from '../firewall/packet.ts';
import { isNodeAddress, type NodeNetwork } from '../node.ts';
import { bare } from './endpoints.ts';
import { describePacket, note, type Walk } from './hops.ts';

export function applyDnat(walk: Walk, node: NodeNetwork, hook: 'prerouting' | 'output'): void {
  const { packet } = walk;
  const { dnat, remarks } = firewall(walk, node, 'nat', hook);
  if (!dnat) return;
  packet.dst = dnat.address;
  packet.dport = dnat.port ?? packet.dport;
  packet.dnat = true;
  const what = [
    `the destination becomes ${dnat.address}${dnat.port === undefined ? '' : ` port ${dnat.port}`} (DNAT)`,
    ...remarks,
  ];
  walk.hops.push({
    at: `node ${node.name}`,
    what: what.join('; '),
    because: dnat.because,
    packet: describePacket(packet),
  });
}

export async function applySnat(walk: Walk, node: NodeNetwork): Promise<void> {
  const { packet } = walk;
  const { snat } = firewall(walk, node, 'nat', 'postrouting');
  const at = `node ${node.name}`;
  if (!snat) {
    const isPod = walk.nodes.some(({ pods }) =>
      pods.some(({ ips, netns }) => netns !== null && ips.includes(packet.src)),
    );
    if (isPod) note(walk, at, 'no masquerade: the source stays', undefined);
    return;
  }
  const own = await routeGet(node.netns, { to: packet.dst });
  const outgoing = 'route' in own ? own.route.prefsrc : undefined;
  const device = node.tables.links.find(({ name }) => name === packet.oif);
  const first = device?.addresses.map(bare).find(address => isIPv4(address) === isIPv4(packet.dst));
  packet.src = snat.address === 'outgoing device' ? (outgoing ?? first ?? packet.src) : snat.address;
  walk.hops.push({
    at,
    what: `the source becomes ${packet.src} (masquerade)`,
    because: snat.because,
    packet: describePacket(packet),
  });
}

/** What iptables' chain and nftables' chains of a hook do together; a translation by the first stands. */
export function firewall(walk: Walk, node: NodeNetwork, type: 'nat' | 'filter', hook: Hook): Verdict {
  const { packet } = walk;
  const isLocal = (address: string) => isNodeAddress(node, address);
  const tables = isIPv4(packet.dst) ? node.iptables.ipv4 : node.iptables.ipv6;
  const first = walkIptables(tables, type, hook.toUpperCase(), packet, isLocal);
  packet.mark = first.mark;
  const isDecided = first.drop ?? first.dnat ?? first.snat;
  const verdict = isDecided ? first : walkNft(node.nft, type, hook, packet, isLocal);
  packet.mark = verdict.mark;
  for (const rule of new Set([...first.notUnderstood, ...verdict.notUnderstood])) {
    note(walk, `node ${node.name}`, `a rule of ${hook} is beyond this trace, and was passed over`, rule);
  }
  return verdict;
}
