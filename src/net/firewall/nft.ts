// nftables rules as `nft -j list ruleset` prints them (libnftables-json(5)): read, and walked as the kernel would for one
// packet. Knows the expressions that service proxies and CNI plugins write; a rule with another is passed over and named.
import { isIPv4 } from 'node:net';
import { z } from 'zod';
import { type Hook, inPrefix, type Packet, type Verdict } from './packet.ts';

const chainSchema = z.object({
  family: z.string(),
  table: z.string(),
  name: z.string(),
  type: z.string().optional(),
  hook: z.string().optional(),
  prio: z.number().optional(),
  policy: z.string().optional(),
});
const ruleSchema = z.object({
  family: z.string(),
  table: z.string(),
  chain: z.string(),
  comment: z.string().optional(),
  expr: z.array(z.record(z.string(), z.unknown())).default([]),
});
const setSchema = z.object({
  family: z.string(),
  table: z.string(),
  name: z.string(),
  elem: z.array(z.unknown()).default([]),
});

export type NftRule = z.infer<typeof ruleSchema>;

export interface Nft {
  chains: z.infer<typeof chainSchema>[];
  rules: NftRule[];
  /** Sets and maps. */
  sets: z.infer<typeof setSchema>[];
}

/**
 * @param members of the list `nftables`
 * @param isIptables tells tables that are iptables' own, which iptables-save shows better
 */
export function parseNft(
  members: readonly unknown[],
  isIptables: (family: string, table: string) => boolean,
): Nft {
  const found: Nft = { chains: [], rules: [], sets: [] };
  for (const member of members) {
    const { chain, rule, set, map } = z
      .object({ chain: chainSchema, rule: ruleSchema, set: setSchema, map: setSchema })
      .partial()
      .catch({})
      .parse(member);
    if (chain && !isIptables(chain.family, chain.table)) found.chains.push(chain);
    if (rule && !isIptables(rule.family, rule.table)) found.rules.push(rule);
    const setOrMap = set ?? map;
    if (setOrMap && !isIptables(setOrMap.family, setOrMap.table)) found.sets.push(setOrMap);
  }
  return found;
}

/** A rule in words close to nft's own. */
export function nftRuleText({ family, table, chain, expr, comment }: NftRule): string {
  const words = expr.map(statementText).filter(text => text !== '');
  const said = comment === undefined ? '' : ` comment "${comment}"`;
  return `${family} ${table} ${chain}: ${words.join(' ')}${said}`;
}

interface Walk {
  nft: Nft;
  packet: Packet;
  isLocal(address: string): boolean;
  verdict: Verdict;
}

/** What the base chains of that type at that hook do, in the order of their priorities. */
export function walkNft(
  nft: Nft,
  type: 'nat' | 'filter',
  hook: Hook,
  packet: Packet,
  isLocal: (address: string) => boolean,
): Verdict {
  const verdict: Verdict = { mark: packet.mark, notUnderstood: [], remarks: [] };
  const family = isIPv4(packet.dst) ? 'ip' : 'ip6';
  const walk: Walk = { nft, packet: { ...packet }, isLocal, verdict };
  const bases = nft.chains
    .filter(chain => chain.type === type && chain.hook === hook && [family, 'inet'].includes(chain.family))
    .sort((a, b) => (a.prio ?? 0) - (b.prio ?? 0));
  for (const base of bases) {
    const outcome = walkChain(base.family, base.table, base.name, walk, 0);
    if (outcome === 'goes on' && base.policy === 'drop') {
      verdict.drop = { because: `${base.family} ${base.table} ${base.name}: policy drop` };
    }
    if (verdict.drop || verdict.dnat || verdict.snat) break;
  }
  return verdict;
}

type Outcome = 'ends' | 'goes on' | 'next rule';

function walkChain(family: string, table: string, chain: string, walk: Walk, depth: number): Outcome {
  if (depth > 32) return 'goes on';
  for (const rule of walk.nft.rules) {
    if (rule.family !== family || rule.table !== table || rule.chain !== chain) continue;
    const outcome = walkRule(rule, walk, depth);
    if (outcome !== 'next rule') return outcome;
  }
  return 'goes on';
}

function walkRule(rule: NftRule, walk: Walk, depth: number): Outcome {
  const { verdict, packet } = walk;
  const because = nftRuleText(rule);
  for (const statement of rule.expr) {
    const [[kind = '', value] = ['', undefined]] = Object.entries(statement);
    switch (kind) {
      case 'counter':
      case 'comment':
        continue;
      case 'match': {
        const matched = matches(matchSchema.parse(value), rule, walk);
        if (matched === undefined) verdict.notUnderstood.push(because);
        if (!matched) return 'next rule';
        continue;
      }
      case 'mangle': {
        const mangled = markSchema.safeParse(value).data;
        if (mangled === undefined) continue; // another field than the mark
        packet.mark = typeof mangled.value === 'number' ? mangled.value : packet.mark | mangled.value['|'][1];
        verdict.mark = packet.mark;
        continue;
      }
      case 'accept':
        return 'ends';
      case 'return':
        return 'goes on';
      case 'drop':
      case 'reject':
        verdict.drop = { because };
        return 'ends';
      case 'masquerade':
        verdict.snat = { address: 'outgoing device', because };
        return 'ends';
      case 'snat':
      case 'dnat': {
        const { addr, port } = natSchema.parse(value ?? {});
        if (typeof addr !== 'string') verdict.notUnderstood.push(because);
        else if (kind === 'snat') verdict.snat = { address: addr, because };
        else verdict.dnat = { address: addr, port: typeof port === 'number' ? port : packet.dport, because };
        return 'ends';
      }
      case 'jump':
      case 'goto': {
        const outcome = follow({ [kind]: value }, rule, walk, depth);
        if (outcome !== 'next rule') return outcome;
        continue;
      }
      case 'vmap': {
        const outcome = walkVerdictMap(value, rule, walk, depth);
        if (outcome === undefined) {
          verdict.notUnderstood.push(because);
          return 'next rule';
        }
        if (outcome !== 'next rule') return outcome;
        continue;
      }
      default:
        verdict.notUnderstood.push(because);
        return 'next rule';
    }
  }
  return 'next rule';
}

const targetSchema = z.object({ target: z.string() });

/** A verdict as maps and rules have it: accept, drop, return, jump, goto. */
function follow(statement: Record<string, unknown>, rule: NftRule, walk: Walk, depth: number): Outcome {
  const [[kind = '', value] = ['', undefined]] = Object.entries(statement);
  if (kind === 'accept') return 'ends';
  if (kind === 'return') return 'goes on';
  if (kind === 'drop') {
    walk.verdict.drop = { because: nftRuleText(rule) };
    return 'ends';
  }
  const { target } = targetSchema.parse(value);
  const outcome = walkChain(rule.family, rule.table, target, walk, depth + 1);
  if (outcome === 'ends' || kind === 'goto') return outcome;
  return 'next rule';
}

const vmapSchema = z.object({
  key: z.unknown(),
  data: z.union([
    z.string(),
    z.object({ set: z.array(z.tuple([z.unknown(), z.record(z.string(), z.unknown())])) }),
  ]),
});
const numgenSchema = z.object({ numgen: z.object({ mode: z.string(), mod: z.number() }) });

/** undefined: not understood. */
function walkVerdictMap(value: unknown, rule: NftRule, walk: Walk, depth: number): Outcome | undefined {
  const map = vmapSchema.safeParse(value).data;
  if (!map) return undefined;
  const entries =
    typeof map.data === 'string' ? namedSet(map.data, rule, walk.nft).filter(isVerdictEntry) : map.data.set;
  const numgen = numgenSchema.safeParse(map.key).data?.numgen;
  if (numgen) {
    const targets = entries.map(([, verdict]) =>
      Object.values(verdict).map(chain => targetSchema.safeParse(chain).data?.target),
    );
    const manner = numgen.mode === 'random' ? 'at random' : 'in turn';
    walk.verdict.remarks.push(
      `one of ${entries.length} is chosen for each connection, ${manner} (${targets.flat().join(', ')}): this follows the first`,
    );
    const first = entries[0];
    return first ? follow(first[1], rule, walk, depth) : 'next rule';
  }
  const actual = keyOf(map.key, walk);
  if (actual === undefined) return undefined;
  const hit = entries.find(([key]) => sameKey(key, actual));
  return hit ? follow(hit[1], rule, walk, depth) : 'next rule';
}

function isVerdictEntry(entry: unknown): entry is [unknown, Record<string, unknown>] {
  return Array.isArray(entry) && entry.length === 2 && typeof entry[1] === 'object' && entry[1] !== null;
}

function sameKey(key: unknown, actual: readonly unknown[]): boolean {
  const parts = z.object({ concat: z.array(z.unknown()) }).safeParse(key).data?.concat ?? [key];
  return parts.length === actual.length && parts.every((part, i) => holds(part, actual[i]));
}

/** The packet's values for a key, one or a concatenation; undefined when a part is not understood. */
function keyOf(key: unknown, walk: Walk): unknown[] | undefined {
  const parts = z.object({ concat: z.array(z.unknown()) }).safeParse(key).data?.concat ?? [key];
  const values = parts.map(part => packetValue(part, walk));
  return values.some(value => value === undefined) ? undefined : values.map(value => value?.is);
}

function namedSet(reference: string, { family, table }: NftRule, { sets }: Nft): unknown[] {
  const name = reference.replace(/^@/, '');
  return sets.find(set => set.family === family && set.table === table && set.name === name)?.elem ?? [];
}

const matchSchema = z.object({ op: z.string(), left: z.unknown(), right: z.unknown() });
const markSchema = z.object({
  key: z.object({ meta: z.object({ key: z.literal('mark') }) }),
  value: z.union([z.number(), z.object({ '|': z.tuple([z.unknown(), z.number()]) })]),
});
const natSchema = z.object({ addr: z.unknown(), port: z.unknown() }).partial();

const leftSchema = z.union([
  z.object({ payload: z.object({ protocol: z.string(), field: z.string() }) }),
  z.object({ meta: z.object({ key: z.string() }) }),
  z.object({ ct: z.object({ key: z.string() }) }),
  z.object({ fib: z.object({ result: z.string(), flags: z.array(z.string()) }) }),
  z.object({ '&': z.tuple([z.unknown(), z.number()]) }),
]);

/** For a field that the packet has not got: its rule does not match, whatever it compares the field with. */
const absent = Symbol('absent');

/** What the packet has for an expression; undefined when the expression is not understood. */
function packetValue(expression: unknown, walk: Walk): { is: unknown } | undefined {
  const left = leftSchema.safeParse(expression).data;
  const { packet } = walk;
  if (!left) return undefined;
  if ('payload' in left) {
    const { protocol, field } = left.payload;
    const isOfFamily = (protocol === 'ip') === isIPv4(packet.dst);
    if (['ip', 'ip6'].includes(protocol)) {
      if (!isOfFamily) return { is: absent };
      if (field === 'saddr') return { is: packet.src };
      if (field === 'daddr') return { is: packet.dst };
      if (field === 'protocol' || field === 'nexthdr') return { is: packet.protocol };
    }
    if (field === 'dport') {
      const isThere = packet.dport !== undefined && ['th', packet.protocol].includes(protocol);
      return { is: isThere ? packet.dport : absent };
    }
    return undefined;
  }
  if ('meta' in left) {
    const values: Record<string, unknown> = {
      iifname: packet.iif ?? '',
      iif: packet.iif ?? '',
      oifname: packet.oif ?? '',
      oif: packet.oif ?? '',
      mark: packet.mark,
      l4proto: packet.protocol,
      nfproto: isIPv4(packet.dst) ? 'ipv4' : 'ipv6',
    };
    return left.meta.key in values ? { is: values[left.meta.key] } : undefined;
  }
  if ('ct' in left) {
    if (left.ct.key === 'state') return { is: 'new' };
    if (left.ct.key === 'status') return { is: packet.dnat ? 'dnat' : '' };
    return undefined;
  }
  if ('fib' in left) {
    if (left.fib.result !== 'type') return undefined;
    const address = left.fib.flags.includes('saddr') ? packet.src : packet.dst;
    return { is: walk.isLocal(address) ? 'local' : 'unicast' };
  }
  const masked = packetValue(left['&'][0], walk)?.is;
  return typeof masked === 'number' ? { is: (masked & left['&'][1]) >>> 0 } : undefined;
}

/** undefined: the match is not understood. */
function matches(
  { op, left, right }: z.infer<typeof matchSchema>,
  rule: NftRule,
  walk: Walk,
): boolean | undefined {
  const value = packetValue(left, walk);
  if (!value || !['==', '!=', 'in'].includes(op)) return undefined;
  if (value.is === absent) return false;
  const isIn =
    typeof right === 'string' && right.startsWith('@')
      ? namedSet(right, rule, walk.nft).some(element => holds(element, value.is))
      : holds(right, value.is);
  return op === '!=' ? !isIn : isIn;
}

const prefixSchema = z.object({ prefix: z.object({ addr: z.string(), len: z.number() }) });
const rangeSchema = z.object({ range: z.tuple([z.number(), z.number()]) });
const anonymousSetSchema = z.object({ set: z.array(z.unknown()) });
const elementSchema = z.object({ elem: z.object({ val: z.unknown() }) });

/** Whether a right-hand side (a value, prefix, range, or set of those) holds the packet's value. */
function holds(right: unknown, value: unknown): boolean {
  const element = elementSchema.safeParse(right).data;
  if (element) return holds(element.elem.val, value);
  if (Array.isArray(right)) return right.some(part => holds(part, value));
  const set = anonymousSetSchema.safeParse(right).data;
  if (set) return set.set.some(part => holds(part, value));
  const prefix = prefixSchema.safeParse(right).data?.prefix;
  if (prefix) return typeof value === 'string' && inPrefix(value, `${prefix.addr}/${prefix.len}`);
  const range = rangeSchema.safeParse(right).data?.range;
  if (range) return typeof value === 'number' && value >= range[0] && value <= range[1];
  return right === value;
}

function statementText(statement: Record<string, unknown>): string {
  const [[kind = '', value] = ['', undefined]] = Object.entries(statement);
  switch (kind) {
    case 'counter':
      return '';
    case 'match': {
      const { op, left, right } = matchSchema.parse(value);
      return `${expressionText(left)} ${op === '!=' ? '!= ' : ''}${valueText(left, right)}`;
    }
    case 'mangle': {
      const mangled = z.object({ key: z.unknown(), value: z.unknown() }).parse(value);
      return `${expressionText(mangled.key)} set ${valueText(mangled.key, mangled.value)}`;
    }
    case 'dnat':
    case 'snat': {
      const { addr, port } = natSchema.parse(value ?? {});
      return `${kind} to ${expressionText(addr)}${port === undefined ? '' : `:${expressionText(port)}`}`;
    }
    case 'jump':
    case 'goto':
      return `${kind} ${targetSchema.safeParse(value).data?.target ?? ''}`;
    case 'vmap': {
      const map = z.object({ key: z.unknown(), data: z.unknown() }).parse(value);
      return `${expressionText(map.key)} vmap ${expressionText(map.data)}`;
    }
    default:
      return value === null ? kind : `${kind} ${expressionText(value)}`;
  }
}

/** Marks as people write them. */
function valueText(of: unknown, value: unknown): string {
  const meta = z.object({ meta: z.object({ key: z.literal('mark') }) }).safeParse(of);
  return meta.success && typeof value === 'number' ? `0x${value.toString(16)}` : expressionText(value);
}

function expressionText(expression: unknown): string {
  if (typeof expression !== 'object' || expression === null) return String(expression);
  if (Array.isArray(expression)) return expression.map(expressionText).join(' : ');
  const left = leftSchema.safeParse(expression).data;
  if (left && 'payload' in left) return `${left.payload.protocol} ${left.payload.field}`;
  if (left && 'meta' in left) return `meta ${left.meta.key}`;
  if (left && 'ct' in left) return `ct ${left.ct.key}`;
  if (left && 'fib' in left) return `fib ${left.fib.flags.join(' . ')} ${left.fib.result}`;
  const prefix = prefixSchema.safeParse(expression).data?.prefix;
  if (prefix) return `${prefix.addr}/${prefix.len}`;
  const set = anonymousSetSchema.safeParse(expression).data;
  if (set) return `{ ${set.set.map(expressionText).join(', ')} }`;
  const numgen = numgenSchema.safeParse(expression).data?.numgen;
  if (numgen) return `numgen ${numgen.mode} mod ${numgen.mod}`;
  const [[kind = '', value] = ['', undefined]] = Object.entries(expression);
  const target = targetSchema.safeParse(value).data?.target;
  return `${kind} ${target ?? expressionText(value)}`;
}
