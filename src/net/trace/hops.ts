// What a trace is: hops, each with the entry of a table that says so, and an end.
import { isIPv4 } from 'node:net';
import type { Packet } from '../firewall/packet.ts';
import type { NodeNetwork } from '../node.ts';

export interface Hop {
  /** `pod web-a`, `node ct-node-0`, `link`. */
  at: string;
  /** What happens to the packet there. */
  what: string;
  /** The table's entry, rule or command that says so. */
  because: string | undefined;
  /** The packet's addresses after this hop, when the hop changed them. */
  packet: string | undefined;
}

export interface Trace {
  from: string;
  to: string;
  hops: Hop[];
  /** `leaves`: for where no daemon that was asked can see. */
  outcome: 'delivered' | 'dropped' | 'leaves';
  /** A sentence. */
  end: string;
}

export interface TraceOptions {
  protocol: 'tcp' | 'udp' | 'any';
  port: number | undefined;
}

/** What travels through the walk. */
export interface Walk {
  nodes: readonly NodeNetwork[];
  /** The source is an address that was asked for; else it is for the sender's route to choose. */
  hasSource: boolean;
  packet: Packet;
  hops: Hop[];
}

export type End = Pick<Trace, 'outcome' | 'end'>;

export function note(walk: Walk, at: string, what: string, because: string | undefined): void {
  walk.hops.push({ at, what, because, packet: undefined });
}

export function delivered(walk: Walk, at: string, what: string, because: string | undefined): End {
  note(walk, at, what, because);
  return { outcome: 'delivered', end: `delivered to ${at} as ${describePacket(walk.packet)}` };
}

export function dropped(walk: Walk, at: string, what: string, because: string | undefined): End {
  note(walk, at, what, because);
  return { outcome: 'dropped', end: `ends at ${at}: ${what}` };
}

export function leaves(walk: Walk, nextHop: string, device: string): End {
  const where = `to ${nextHop} by ${device}`;
  const isElsewhere =
    walk.nodes.length === 1 ? ' (another node on this machine is seen with --peer SOCKET)' : '';
  return {
    outcome: 'leaves',
    end: `leaves ${where} as ${describePacket(walk.packet)}: what follows no daemon here can see${isElsewhere}`,
  };
}

export function describePacket({ src, dst, dport }: Packet): string {
  const target = dport === undefined ? dst : isIPv4(dst) ? `${dst}:${dport}` : `[${dst}]:${dport}`;
  return `${src} -> ${target}`;
}
