// A packet as firewall rules look at it, and what they may do with it.
import { BlockList, isIPv4 } from 'node:net';

export interface Packet {
  src: string;
  dst: string;
  /** `any`: none that a rule would name; rules for one protocol alone do not meet it. */
  protocol: 'tcp' | 'udp' | 'any';
  dport: number | undefined;
  /** The device it came by and the one it leaves by; undefined where there is none (yet). */
  iif: string | undefined;
  oif: string | undefined;
  mark: number;
  /** Its destination was translated on this node. */
  dnat: boolean;
}

/** The places where a node's rules see a packet, by netfilter's names. */
export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

/** What the rules of one hook do. `because` is the rule as the tool prints it. */
export interface Verdict {
  drop?: { because: string };
  /** The destination becomes this address (and port). */
  dnat?: { address: string; port: number | undefined; because: string };
  /** The source becomes this address, or that of the device it leaves by. */
  snat?: { address: string | 'outgoing device'; because: string };
  mark: number;
  /** Rules with matches that are not understood here; they were passed over. */
  notUnderstood: string[];
  /** Further things a reader should know, such as a choice among endpoints. */
  remarks: string[];
}

/** True when the address lies in the prefix; a prefix of the other family never holds it. */
export function inPrefix(address: string, prefix: string): boolean {
  const [network = '', length] = prefix.split('/');
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  if (isIPv4(network) !== (family === 'ipv4')) return false;
  const list = new BlockList();
  list.addSubnet(network, length === undefined ? (family === 'ipv4' ? 32 : 128) : Number(length), family);
  return list.check(address, family);
}

/** Splits `10.0.0.1:80`, `[fd00::1]:80` or a bare address. */
export function splitEndpoint(text: string): { address: string; port: number | undefined } {
  const match = /^\[([^\]]+)\](?::(\d+))?$/.exec(text) ?? /^([^:]+)(?::(\d+))?$/.exec(text);
  if (!match) return { address: text, port: undefined };
  return { address: match[1] ?? '', port: match[2] === undefined ? undefined : Number(match[2]) };
}
