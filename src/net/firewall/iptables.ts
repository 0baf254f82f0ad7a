// iptables rules as iptables-save prints them: read, and walked as the kernel would for one packet. Of matches it knows
// those that CNI plugins and kube-proxy write; a rule with another is passed over and named.
import { inPrefix, type Packet, splitEndpoint, type Verdict } from './packet.ts';

export interface IptablesRule {
  table: string;
  chain: string;
  /** As iptables-save prints it: `-A CHAIN ...`. */
  text: string;
  /** Text of `-m comment`. */
  comment: string;
  words: readonly string[];
}

interface Chain {
  policy: string;
  rules: IptablesRule[];
}

/** Chains by table and name. */
export type Iptables = ReadonlyMap<string, ReadonlyMap<string, Chain>>;

export function parseIptables(save: string): Iptables {
  const tables = new Map<string, Map<string, Chain>>();
  let table = '';
  for (const line of save.split('\n')) {
    if (line.startsWith('*')) {
      table = line.slice(1);
      tables.set(table, new Map());
    } else if (line.startsWith(':')) {
      const [name = '', policy = ''] = line.slice(1).split(' ');
      tables.get(table)?.set(name, { policy, rules: [] });
    } else if (line.startsWith('-A ')) {
      const words = splitWords(line);
      const chain = words[1] ?? '';
      const comment = words[words.indexOf('--comment') + 1] ?? '';
      const rule = { table, chain, text: line, comment: words.includes('--comment') ? comment : '', words };
      tables.get(table)?.get(chain)?.rules.push(rule);
    }
  }
  return tables;
}

export function allRules(tables: Iptables): IptablesRule[] {
  return [...tables.values()].flatMap(chains => [...chains.values()].flatMap(({ rules }) => rules));
}

/** Words of a line, double quotes taken off and `\"` inside them undone. */
function splitWords(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(
    ([, quoted, bare]) => quoted?.replaceAll(/\\(.)/g, '$1') ?? bare ?? '',
  );
}

interface Walk {
  packet: Packet;
  isLocal(address: string): boolean;
  chains: ReadonlyMap<string, Chain>;
  verdict: Verdict;
}

/** What the table's built-in chain does with the packet, which is the first of its connection. */
export function walkIptables(
  tables: Iptables,
  table: 'nat' | 'filter',
  chain: string,
  packet: Packet,
  isLocal: (address: string) => boolean,
): Verdict {
  const verdict: Verdict = { mark: packet.mark, notUnderstood: [], remarks: [] };
  const chains = tables.get(table);
  const start = chains?.get(chain);
  if (!chains || !start) return verdict;
  const walk = { packet: { ...packet }, isLocal, chains, verdict };
  if (walkChain(start, walk, 0) === 'goes on' && start.policy === 'DROP') {
    verdict.drop = { because: `-P ${chain} DROP (table ${table})` };
  }
  return verdict;
}

/** `ends`: a rule decided. `goes on`: the end of the chain was reached. */
function walkChain(chain: Chain, walk: Walk, depth: number): 'ends' | 'goes on' {
  if (depth > 32) return 'goes on';
  for (const rule of chain.rules) {
    const { matches, target } = readRule(rule, walk);
    if (!matches || target === undefined) continue;
    const argument = (option: string) => rule.words[rule.words.indexOf(option) + 1] ?? '';
    const { verdict } = walk;
    const because = rule.text;
    switch (target.name) {
      case 'ACCEPT':
        return 'ends';
      case 'RETURN':
        return 'goes on';
      case 'DROP':
      case 'REJECT':
        verdict.drop = { because };
        return 'ends';
      case 'MASQUERADE':
        verdict.snat = { address: 'outgoing device', because };
        return 'ends';
      case 'SNAT':
        verdict.snat = { address: splitEndpoint(argument('--to-source')).address, because };
        return 'ends';
      case 'DNAT':
        verdict.dnat = { ...splitEndpoint(argument('--to-destination')), because };
        return 'ends';
      case 'MARK':
        setMark(walk, rule.words);
        continue;
      default: {
        const next = walk.chains.get(target.name);
        if (!next) continue;
        const outcome = walkChain(next, walk, depth + 1);
        if (outcome === 'ends' || target.goto) return outcome;
      }
    }
  }
  return 'goes on';
}

function setMark(walk: Walk, words: readonly string[]): void {
  const value = (option: string) => {
    const at = words.indexOf(option);
    return at < 0 ? undefined : (words[at + 1] ?? '').split('/').map(Number);
  };
  const { packet, verdict } = walk;
  const xmark = value('--set-xmark') ?? value('--set-mark');
  const or = value('--or-mark');
  if (xmark) packet.mark = (packet.mark & ~(xmark[1] ?? 0xffffffff)) ^ (xmark[0] ?? 0);
  if (or) packet.mark |= or[0] ?? 0;
  verdict.mark = packet.mark;
}

function readRule(
  rule: IptablesRule,
  { packet, isLocal, verdict }: Walk,
): { matches: boolean; target: { name: string; goto: boolean } | undefined } {
  const { words } = rule;
  let chance: string | undefined;
  let target: { name: string; goto: boolean } | undefined;
  let matches = true;
  let unknown = false;
  let negated = false;
  const test = (outcome: boolean) => {
    if (outcome === negated) matches = false;
    negated = false;
  };
  for (let i = 2; i < words.length; i++) {
    const option = words[i] ?? '';
    if (option === '!') {
      negated = true;
      continue;
    }
    if (option === '-j' || option === '-g') {
      target = { name: words[i + 1] ?? '', goto: option === '-g' };
      break; // what follows belongs to the target
    }
    const value = words[++i] ?? '';
    switch (option) {
      case '-m':
      case '--comment':
        break;
      case '-s':
        test(value.split(',').some(prefix => inPrefix(packet.src, prefix)));
        break;
      case '-d':
        test(value.split(',').some(prefix => inPrefix(packet.dst, prefix)));
        break;
      case '-i':
        test(isDevice(value, packet.iif));
        break;
      case '-o':
        test(isDevice(value, packet.oif));
        break;
      case '-p':
        test(value === packet.protocol || value === 'all');
        break;
      case '--dport':
      case '--dports':
        test(hasPort(value, packet.dport));
        break;
      case '--dst-type':
        test(value === 'LOCAL' && isLocal(packet.dst));
        break;
      case '--mark': {
        const [mark = 0, mask = 0xffffffff] = value.split('/').map(Number);
        test((packet.mark & mask) >>> 0 === mark);
        break;
      }
      case '--ctstate':
      case '--state': // the first packet of a connection
        test(value.split(',').some(state => state === 'NEW' || (state === 'DNAT' && packet.dnat)));
        break;
      case '--mode': // of statistic
        unknown ||= value !== 'random';
        break;
      case '--probability':
        chance = value;
        break;
      default:
        unknown = true;
        negated = false;
        if (!value.startsWith('-')) continue;
        i--; // an option without a value
    }
  }
  if (unknown && matches) verdict.notUnderstood.push(rule.text);
  else if (chance !== undefined && matches) {
    const percent = Math.round(Number(chance) * 100);
    verdict.remarks.push(
      `${target?.name ?? 'a rule'} is drawn at random (${percent} in 100): this follows it`,
    );
  }
  return { matches: matches && !unknown, target };
}

/** `veth+` stands for every name that begins so. */
function isDevice(pattern: string, name: string | undefined): boolean {
  if (name === undefined) return false;
  return pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}

function hasPort(list: string, port: number | undefined): boolean {
  if (port === undefined) return false;
  return list.split(',').some(part => {
    const [first = Number.NaN, last = first] = part.split(':').map(Number);
    return port >= first && port <= last;
  });
}
