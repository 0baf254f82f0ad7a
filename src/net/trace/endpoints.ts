// Where a trace begins and ends: names and addresses that people give, found among the pods and nodes.
import { isIP, isIPv4 } from 'node:net';
import { CriError } from '../../errors.ts';
import type { Link } from '../../host/net-tables.ts';
import type { NodeNetwork, PodNetwork } from '../node.ts';

export type EndPoint =
  | { kind: 'pod'; node: NodeNetwork; pod: PodNetwork; addresses: string[] }
  | { kind: 'node'; node: NodeNetwork; addresses: string[] }
  | { kind: 'address'; addresses: string[] };

export function findEnd(nodes: readonly NodeNetwork[], text: string): EndPoint {
  const pods = nodes.flatMap(node => node.pods.filter(({ ready }) => ready).map(pod => ({ node, pod })));
  const isNamed = ({ name, namespace, ips, netns, id }: PodNetwork) =>
    name === text ||
    `${namespace}/${name}` === text ||
    (netns !== null && ips.includes(text)) ||
    (text.length >= 6 && id.startsWith(text));
  const found = pods.filter(({ pod }) => isNamed(pod));
  if (found.length > 1) {
    const names = found.map(({ pod }) => `${pod.namespace}/${pod.name} (${pod.id.slice(0, 13)})`).join(', ');
    throw new CriError('ambiguousId', `"${text}" fits several pods: ${names}; name one by its id`);
  }
  const [pod] = found;
  if (pod) {
    if (pod.pod.netns === null) return { kind: 'node', node: pod.node, addresses: nodeAddresses(pod.node) };
    // Named by one of its addresses, it is that one that is meant.
    return { kind: 'pod', ...pod, addresses: pod.pod.ips.includes(text) ? [text] : pod.pod.ips };
  }
  const node = nodes.find(candidate => candidate.name === text);
  if (node) return { kind: 'node', node, addresses: nodeAddresses(node) };
  if (isIP(text)) return { kind: 'address', addresses: [text] };
  const known = [...pods.map(({ pod }) => pod.name), ...nodes.map(({ name }) => name)].join(', ') || 'none';
  throw new CriError('notFound', `"${text}" is no ready pod, node or IP address; known are: ${known}`);
}

/** Those by which others know the node come first, before those of its bridges and tunnels. */
export function nodeAddresses({ tables }: NodeNetwork): string[] {
  const links = tables.links.filter(({ name }) => name !== 'lo');
  const isInner = ({ kind }: Link) => kind === 'bridge' || kind === 'vxlan';
  return [...links.filter(link => !isInner(link)), ...links.filter(isInner)].flatMap(({ addresses }) =>
    addresses.map(bare),
  );
}

export function addressPair(start: EndPoint, target: EndPoint, from: string, to: string): [string, string] {
  for (const dst of target.addresses) {
    const src = start.addresses.find(address => isIPv4(address) === isIPv4(dst));
    if (src !== undefined) return [src, dst];
  }
  throw new CriError('invalidArgument', `${from} and ${to} have no addresses of one family (IPv4 or IPv6)`);
}

export function label(end: EndPoint, address: string): string {
  return end.kind === 'address'
    ? address
    : `${end.kind === 'pod' ? end.pod.name : end.node.name} (${address})`;
}

/** An address without its prefix length. */
export function bare(address: string): string {
  return address.split('/')[0] ?? '';
}
