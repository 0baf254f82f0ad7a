// Nodes whose CNI configuration is made from a template once kubelet knows the node's pod CIDR (UpdateRuntimeConfig).
// The template is of Go's text/template, as containerd takes it; this understands what such templates use: fields,
// variables, `range`, `if`, `else`, `end`, comments, and trimming with `-`.
import { rename, writeFile } from 'node:fs/promises';
import { isIPv4, isIPv6 } from 'node:net';
import { join } from 'node:path';
import { CriError } from '../errors.ts';
import { makeDirectories } from '../host/directories.ts';

/** What a template may name: `.PodCIDR`, `.PodCIDRRanges`, `.Routes`. */
interface TemplateData {
  PodCIDR: string;
  PodCIDRRanges: string[];
  Routes: string[];
}

/**
 * Fills the template in. @param podCidr one CIDR, or a comma-separated one for each family
 * @throws CriError invalidArgument when a CIDR is none or the template is beyond what is understood
 */
export function renderCniTemplate(template: string, podCidr: string): string {
  const ranges = podCidr.split(',').map(range => range.trim());
  for (const range of ranges)
    if (!isCidr(range)) throw new CriError('invalidArgument', `pod CIDR ${JSON.stringify(range)} is no CIDR`);
  const routes = [
    ...(ranges.some(range => range.includes('.')) ? ['0.0.0.0/0'] : []),
    ...(ranges.some(range => range.includes(':')) ? ['::/0'] : []),
  ];
  const data: TemplateData = { PodCIDR: ranges[0] ?? '', PodCIDRRanges: ranges, Routes: routes };
  const { nodes } = parse(tokens(template), 0, []);
  return render(nodes, data, data, new Map());
}

function isCidr(text: string): boolean {
  const [address = '', prefix = ''] = text.split('/');
  const bits = Number(prefix);
  return /^\d+$/.test(prefix) && ((isIPv4(address) && bits <= 32) || (isIPv6(address) && bits <= 128));
}

type Token = { text: string } | { action: string };

/** Text and actions in turn; an action's `{{-` or `-}}` takes the white space beside it. */
function tokens(template: string): Token[] {
  const found: Token[] = [];
  const pattern = /\{\{(-\s)?\s*([\s\S]*?)\s*(\s-)?\}\}/g;
  let at = 0;
  let trimNext = false;
  const text = (part: string, trimEnd: boolean) => {
    const start = trimNext ? part.trimStart() : part;
    found.push({ text: trimEnd ? start.trimEnd() : start });
  };
  for (const match of template.matchAll(pattern)) {
    text(template.slice(at, match.index), match[1] !== undefined);
    trimNext = match[3] !== undefined;
    at = match.index + match[0].length;
    const action = match[2] ?? '';
    if (!action.startsWith('/*')) found.push({ action });
  }
  text(template.slice(at), false);
  return found;
}

type Node =
  | { kind: 'text'; text: string }
  | { kind: 'value'; expression: string }
  | { kind: 'if'; expression: string; whenTrue: Node[]; otherwise: Node[] }
  | { kind: 'range'; index: string; item: string; expression: string; body: Node[] };

/** Nodes from `at` up to one of the actions in `until`, which is told too. */
function parse(
  list: readonly Token[],
  at: number,
  until: readonly string[],
): { nodes: Node[]; next: number; stop: string } {
  const nodes: Node[] = [];
  let i = at;
  while (i < list.length) {
    const token = list[i++];
    if (!token) break;
    if ('text' in token) {
      nodes.push({ kind: 'text', text: token.text });
      continue;
    }
    const { action } = token;
    if (until.includes(action)) return { nodes, next: i, stop: action };
    const condition = /^if\s+(.+)$/.exec(action);
    const loop = /^range\s+(?:(\$\w+)\s*(?:,\s*(\$\w+))?\s*:=\s*)?(.+)$/.exec(action);
    if (condition) {
      const then = parse(list, i, ['else', 'end']);
      const otherwise =
        then.stop === 'else' ? parse(list, then.next, ['end']) : { nodes: [], next: then.next };
      nodes.push({
        kind: 'if',
        expression: condition[1] ?? '',
        whenTrue: then.nodes,
        otherwise: otherwise.nodes,
      });
      i = otherwise.next;
    } else if (loop) {
      const body = parse(list, i, ['end']);
      // With one variable it is the item, with two the first is the index.
      const [index = '', item = ''] = loop[2] === undefined ? ['', loop[1]] : [loop[1], loop[2]];
      nodes.push({ kind: 'range', index, item, expression: loop[3] ?? '', body: body.nodes });
      i = body.next;
    } else nodes.push({ kind: 'value', expression: action });
  }
  if (until.length > 0)
    throw new CriError('invalidArgument', 'the CNI template has a range or if without its end');
  return { nodes, next: i, stop: '' };
}

type Variables = ReadonlyMap<string, unknown>;

function render(nodes: readonly Node[], root: TemplateData, dot: unknown, variables: Variables): string {
  return nodes.map(node => renderOne(node, root, dot, variables)).join('');
}

function renderOne(node: Node, root: TemplateData, dot: unknown, variables: Variables): string {
  const value = (expression: string) => evaluate(expression, root, dot, variables);
  switch (node.kind) {
    case 'text':
      return node.text;
    case 'value':
      return String(value(node.expression));
    case 'if':
      return render(isTrue(value(node.expression)) ? node.whenTrue : node.otherwise, root, dot, variables);
    case 'range':
      return items(value(node.expression))
        .map((item, i) =>
          render(node.body, root, item, new Map([...variables, [node.index, i], [node.item, item]])),
        )
        .join('');
  }
}

function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Go's truth: not zero, not empty. */
function isTrue(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

function evaluate(expression: string, root: TemplateData, dot: unknown, variables: Variables): unknown {
  if (expression === '.') return dot;
  if (variables.has(expression)) return variables.get(expression);
  const field = /^\$?\.(\w+)$/.exec(expression)?.[1];
  if (field !== undefined && field in root) return root[field as keyof TemplateData];
  throw new CriError(
    'invalidArgument',
    `the CNI template uses ${JSON.stringify(expression)}, which is not understood; it may use .PodCIDR, .PodCIDRRanges, .Routes, range and if`,
  );
}

/**
 * Writes the filled-in template into the configuration directory, whole or not at all; a directory that has networks
 * already is left as it is, since somebody else configures this node.
 */
export async function writeCniTemplate(options: {
  template: string;
  podCidr: string;
  confDir: string;
  hasNetworks: boolean;
}): Promise<void> {
  const text = renderCniTemplate(options.template, options.podCidr);
  if (options.hasNetworks) return;
  const file = join(options.confDir, '10-cri-ts-net.conflist');
  await makeDirectories(options.confDir, 0o755);
  await writeFile(`${file}.new`, text, { mode: 0o644 });
  await rename(`${file}.new`, file);
}
