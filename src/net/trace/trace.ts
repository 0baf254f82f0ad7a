// The way of one packet, the first of its connection, hop by hop: as the live tables of the pods' and nodes' namespaces
// have it now. Routes are the kernel's own answers; rules are walked as the kernel would walk them.
import { isIP, isIPv4 } from 'node:net';
import { CriError } from '../../errors.ts';
import { type Link, type Route, routeGet } from '../../host/net-tables.ts';
import { inPrefix, type Packet } from '../firewall/packet.ts';
import { isNodeAddress, type NodeNetwork, type PodInterface, type PodNetwork, routeText } from '../node.ts';
import { addressPair, bare, type EndPoint, findEnd, label } from './endpoints.ts';
import {
  delivered,
  describePacket,
  dropped,
  type End,
  leaves,
  note,
  type Trace,
  type TraceOptions,
  type Walk,
} from './hops.ts';
import { applyDnat, applySnat, firewall } from './rules.ts';

const maxHops = 40;

/**
 * @param from a pod (name, namespace/name, address or beginning of its id), a node's name, or an address outside
 * @param to a pod, a node's name, or any address
 * @throws CriError invalidArgument when one is none of these, or two have no address family in common
 */
export async function trace(
  nodes: readonly NodeNetwork[],
  from: string,
  to: string,
  { protocol, port }: TraceOptions,
): Promise<Trace> {
  const start = findEnd(nodes, from);
  const target = findEnd(nodes, to);
  const [src, dst] = addressPair(start, target, from, to);
  const packet: Packet = {
    src,
    dst,
    protocol,
    dport: port,
    iif: undefined,
    oif: undefined,
    mark: 0,
    dnat: false,
  };
  const walk: Walk = { nodes, packet, hasSource: isIP(from) !== 0, hops: [] };
  const { outcome, end } = await begin(walk, start, target);
  return { from: label(start, src), to: label(target, dst), hops: walk.hops, outcome, end };
}

async function begin(walk: Walk, start: EndPoint, target: EndPoint): Promise<End> {
  if (start.kind === 'pod') return leavePod(walk, start.node, start.pod);
  if (start.kind === 'node') return leaveProgram(walk, start.node);
  // From outside: the packet is addressed to a node, or is routed to the node whose pod it is for.
  const { packet, nodes } = walk;
  const node =
    target.kind === 'address' ? nodes.find(candidate => isNodeAddress(candidate, packet.dst)) : target.node;
  if (!node) {
    throw new CriError(
      'invalidArgument',
      `${packet.src} and ${packet.dst} are both outside of the nodes: nothing can be told of that`,
    );
  }
  const back = await routeGet(node.netns, { to: packet.src });
  const iif = 'route' in back ? back.route.dev : undefined;
  note(
    walk,
    'outside',
    `the packet comes to node ${node.name}${iif === undefined ? '' : ` by ${iif}`}`,
    back.command,
  );
  return atNode(walk, node, iif);
}

/** In the pod: its own routing table. */
async function leavePod(walk: Walk, node: NodeNetwork, pod: PodNetwork): Promise<End> {
  const { packet } = walk;
  const at = `pod ${pod.name}`;
  if (pod.ips.includes(packet.dst))
    return delivered(walk, at, 'the address is its own: it goes by lo', undefined);
  const answer = await routeGet(pod.netns ?? '', { to: packet.dst });
  if ('problem' in answer)
    return dropped(walk, at, `the pod has no route: ${answer.problem}`, answer.command);
  const { route } = answer;
  if (!walk.hasSource) packet.src = route.prefsrc ?? packet.src; // a pod may have several
  const nextHop = route.gateway ?? packet.dst;
  note(walk, at, `route: ${via(route)}`, matchingRoute(pod.routes, route) ?? answer.command);
  const device = pod.interfaces.find(({ name }) => name === route.dev);
  if (!device) return dropped(walk, at, `its device ${route.dev ?? ''} is not there`, answer.command);
  if (!device.up) return dropped(walk, at, `${device.name} is down`, undefined);
  return alongCable(walk, node, pod, device, nextHop);
}

/** From the pod's interface to whatever its other end is in. */
async function alongCable(
  walk: Walk,
  node: NodeNetwork,
  pod: PodNetwork,
  device: PodInterface,
  nextHop: string,
): Promise<End> {
  if (!device.host) {
    const where =
      device.over === undefined
        ? `${device.kind || 'device'}, whose other end is not on this node`
        : `${device.kind} on ${device.over}`;
    note(walk, `pod ${pod.name}`, `leaves by ${device.name}, a ${where}`, undefined);
    return overLink(walk, node, nextHop, device.over ?? device.name, `pod ${pod.name}`);
  }
  const { name, bridge } = device.host;
  note(
    walk,
    `node ${node.name}`,
    `comes out of ${name}, the other end of ${device.name}${bridge === undefined ? '' : `, a port of bridge ${bridge}`}`,
    `ip link show ${name}`,
  );
  if (bridge === undefined || isNodeAddress(node, nextHop)) return atNode(walk, node, bridge ?? name);
  return acrossBridge(walk, node, bridge, nextHop);
}

/** On a bridge: the frame goes to the port behind which the next hop's hardware address is. */
function acrossBridge(walk: Walk, node: NodeNetwork, bridge: string, nextHop: string): End | Promise<End> {
  const at = `node ${node.name}`;
  const receiver = node.pods
    .flatMap(pod => pod.interfaces.map(device => ({ pod, device })))
    .find(
      ({ device }) => device.host?.bridge === bridge && device.addresses.some(own => bare(own) === nextHop),
    );
  if (!receiver?.device.host) {
    const port = node.tables.links.find(({ master, kind }) => master === bridge && kind !== 'veth');
    if (port) return overLink(walk, node, nextHop, port.name, at);
    return dropped(
      walk,
      at,
      `nobody on ${bridge} has the address ${nextHop}: ARP is not answered`,
      undefined,
    );
  }
  const { pod, device } = receiver;
  const { mac, host } = device;
  const entry = node.tables.fdb.find(({ mac: known, ifname }) => known === mac && ifname === host?.name);
  const how = entry
    ? `bridge fdb: ${mac} dev ${host?.name} master ${bridge}`
    : `not learned yet: asked of every port of ${bridge}`;
  note(walk, at, `bridge ${bridge} sends the frame for ${mac} out of ${host?.name}`, how);
  if (!device.up) return dropped(walk, `pod ${pod.name}`, `${device.name} is down`, undefined);
  if (walk.packet.dst === nextHop)
    return delivered(walk, `pod ${pod.name}`, `arrives on ${device.name}`, undefined);
  return dropped(
    walk,
    `pod ${pod.name}`,
    `gets a packet for ${walk.packet.dst} as if it were a router`,
    undefined,
  );
}

/** A packet of the node's own programs. */
async function leaveProgram(walk: Walk, node: NodeNetwork): Promise<End> {
  applyDnat(walk, node, 'output');
  const answer = await routeGet(node.netns, { to: walk.packet.dst });
  const at = `node ${node.name}`;
  if ('problem' in answer)
    return dropped(walk, at, `the node has no route: ${answer.problem}`, answer.command);
  if (!walk.hasSource) walk.packet.src = answer.route.prefsrc ?? walk.packet.src;
  return leaveNode(walk, node, answer.route, answer.command, 'output');
}

/** A packet that came to a node by `iif`: prerouting, then input, or the choice of a route, forward and postrouting. */
async function atNode(walk: Walk, node: NodeNetwork, iif: string | undefined): Promise<End> {
  const { packet } = walk;
  const at = `node ${node.name}`;
  if (walk.hops.length > maxHops) return dropped(walk, at, 'the packet goes round in a circle', undefined);
  // Marks, and that an address was translated, are known to one node alone.
  Object.assign(packet, { iif, oif: undefined, mark: 0, dnat: false });
  applyDnat(walk, node, 'prerouting');
  if (isNodeAddress(node, packet.dst)) {
    const { drop } = firewall(walk, node, 'filter', 'input');
    if (drop) return dropped(walk, at, 'a rule drops it', drop.because);
    return delivered(walk, at, `${packet.dst} is the node's own: a program of the node gets it`, undefined);
  }
  const family = isIPv4(packet.dst) ? 'ipv4' : 'ipv6';
  if (!node.tables.forwarding[family]) {
    const setting = family === 'ipv4' ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding';
    return dropped(
      walk,
      at,
      `the packet is for another, and the node does not forward: ${setting} = 0`,
      `sysctl ${setting}`,
    );
  }
  // Without a device that it came by, the kernel takes the question for one about a packet of the node's own.
  const asked = iif === undefined ? { to: packet.dst } : { to: packet.dst, from: packet.src, iif };
  const answer = await routeGet(node.netns, asked);
  if ('problem' in answer)
    return dropped(walk, at, `the node has no route: ${answer.problem}`, answer.command);
  return leaveNode(walk, node, answer.route, answer.command, 'forward');
}

async function leaveNode(
  walk: Walk,
  node: NodeNetwork,
  route: Route,
  command: string,
  hook: 'forward' | 'output',
): Promise<End> {
  const { packet } = walk;
  const at = `node ${node.name}`;
  if (route.type !== undefined && ['unreachable', 'blackhole', 'prohibit'].includes(route.type)) {
    return dropped(walk, at, `the route says ${route.type}`, command);
  }
  packet.oif = route.dev;
  const nextHop = route.gateway ?? packet.dst;
  note(walk, at, `route: ${via(route)}`, matchingRoute(node.tables.routes.map(routeText), route) ?? command);
  const { drop } = firewall(walk, node, 'filter', hook);
  if (drop) return dropped(walk, at, 'a rule drops it', drop.because);
  await applySnat(walk, node);
  const device = node.tables.links.find(({ name }) => name === route.dev);
  if (!device) return dropped(walk, at, `its device ${route.dev ?? ''} is not there`, command);
  if (!device.up) return dropped(walk, at, `${device.name} is down`, `ip link show ${device.name}`);
  if (device.kind === 'bridge') return acrossBridge(walk, node, device.name, nextHop);
  if (device.kind === 'vxlan') return throughTunnel(walk, node, device, nextHop);
  const inPod = node.pods
    .flatMap(pod => pod.interfaces.map(own => ({ pod, own })))
    .find(({ own }) => own.host?.name === device.name);
  if (inPod) {
    if (inPod.pod.ips.includes(packet.dst)) {
      return delivered(
        walk,
        `pod ${inPod.pod.name}`,
        `arrives on ${inPod.own.name}, the other end of ${device.name}`,
        undefined,
      );
    }
    return dropped(
      walk,
      `pod ${inPod.pod.name}`,
      `gets a packet for ${packet.dst}, which is not its own`,
      undefined,
    );
  }
  return overLink(walk, node, nextHop, device.name, at);
}

/** VXLAN: the frame travels as UDP from node to node; to whom, two tables say. */
async function throughTunnel(walk: Walk, node: NodeNetwork, device: Link, nextHop: string): Promise<End> {
  const at = `node ${node.name}`;
  const neighbour = node.tables.neighbours.find(({ dst, dev }) => dst === nextHop && dev === device.name);
  if (neighbour?.lladdr === undefined) {
    return dropped(
      walk,
      at,
      `no neighbour entry says which hardware address ${nextHop} has on ${device.name}`,
      'ip neigh',
    );
  }
  const { lladdr } = neighbour;
  const entry = node.tables.fdb.find(
    ({ mac, ifname, dst }) => mac === lladdr && ifname === device.name && dst !== undefined,
  );
  if (entry?.dst === undefined) {
    return dropped(
      walk,
      at,
      `no forwarding entry of ${device.name} says which node has ${lladdr}`,
      'bridge fdb',
    );
  }
  const remote = entry.dst;
  const local = device.vxlan?.local ?? device.vxlan?.local6 ?? '';
  const answer = await routeGet(node.netns, { to: remote });
  if ('problem' in answer)
    return dropped(
      walk,
      at,
      `there is no route to the tunnel's other end ${remote}: ${answer.problem}`,
      answer.command,
    );
  walk.hops.push({
    at,
    what: `${device.name} wraps it: UDP port ${device.vxlan?.port ?? 8472}, VXLAN ${device.vxlan?.id ?? ''}, to ${remote}`,
    because: `ip neigh: ${nextHop} lladdr ${lladdr}; bridge fdb: ${lladdr} dst ${remote}`,
    packet: `${local} -> ${remote} [${describePacket(walk.packet)}]`,
  });
  const other = walk.nodes.find(candidate => candidate !== node && isNodeAddress(candidate, remote));
  if (!other) return leaves(walk, remote, answer.route.dev ?? '');
  const inner = other.tables.links.find(({ vxlan }) => vxlan !== undefined && vxlan.id === device.vxlan?.id);
  if (!inner)
    return dropped(
      walk,
      `node ${other.name}`,
      `has no VXLAN device with the number ${device.vxlan?.id ?? ''}`,
      undefined,
    );
  note(walk, `node ${other.name}`, `${inner.name} unwraps it`, `ip -d link show ${inner.name}`);
  return atNode(walk, other, inner.name);
}

/** Out of a device of the node, to whoever has the next hop's address. */
function overLink(
  walk: Walk,
  node: NodeNetwork,
  nextHop: string,
  device: string,
  at: string,
): End | Promise<End> {
  const other = walk.nodes.find(candidate => candidate !== node && isNodeAddress(candidate, nextHop));
  if (!other) return leaves(walk, nextHop, device);
  const iif = other.tables.links.find(({ addresses }) => addresses.some(own => bare(own) === nextHop))?.name;
  note(
    walk,
    'link',
    `from ${device} of ${at.replace(/^(node|pod) /, '')} to ${nextHop}, which is ${iif ?? ''} of ${other.name}`,
    undefined,
  );
  return atNode(walk, other, iif);
}

function via({ gateway, dev }: Route): string {
  return gateway === undefined ? `directly on ${dev ?? ''}` : `via ${gateway} on ${dev ?? ''}`;
}

/** The line of the table that the kernel's answer came from, as far as it can be told: same gateway and device. */
function matchingRoute(lines: readonly string[], { gateway, dev, dst }: Route): string | undefined {
  const same = lines.filter(line => {
    const words = line.split(' ');
    const value = (word: string) => (words.includes(word) ? words[words.indexOf(word) + 1] : undefined);
    return value('via') === gateway && value('dev') === dev;
  });
  const covers = (prefix: string) =>
    prefix === 'default' || (isIP(bare(prefix)) !== 0 && inPrefix(dst, prefix));
  return same
    .filter(line => isIP(dst) !== 0 && covers(line.split(' ')[0] ?? ''))
    .sort((a, b) => prefixLength(b) - prefixLength(a))[0];
}

function prefixLength(line: string): number {
  const [prefix = ''] = line.split(' ');
  return prefix === 'default' ? -1 : Number(prefix.split('/')[1] ?? 128);
}
