// The node's network and a packet's way, as text for a terminal.

import { nftRuleText } from './firewall/nft.ts';
import {
  type NodeNetwork,
  netnsOf,
  nodeDevices,
  type PodInterface,
  type PodNetwork,
  routeText,
} from './node.ts';
import type { Trace } from './trace/hops.ts';

export function nodeText(node: NodeNetwork): string {
  const { forwarding, routes } = node.tables;
  const devices = nodeDevices(node).filter(
    ({ addresses, kind, up }) => addresses.length > 0 || kind === 'bridge' || (up && kind !== ''),
  );
  return [
    `node ${node.name}   pods ${node.pods.length}   forwards IPv4: ${yesNo(forwarding.ipv4)}, IPv6: ${yesNo(forwarding.ipv6)}`,
    ...section(
      'devices',
      columns(
        devices.map(({ name, kind, addresses, mtu, up, vxlan }) => [
          name,
          kind === 'vxlan' ? `vxlan ${vxlan?.id ?? ''}` : kind || 'device',
          addresses.join(' ') || '-',
          `mtu ${mtu}`,
          up ? 'up' : 'down',
        ]),
      ),
    ),
    ...section('routes', routes.map(routeText)),
    ...section('nftables', node.nft.rules.map(nftRuleText)),
    ...node.pods.flatMap(pod => ['', ...podLines(pod)]),
  ].join('\n');
}

function podLines(pod: PodNetwork): string[] {
  const { id, name, namespace, ready, problem, interfaces, routes, rules, attachments } = pod;
  return [
    `pod ${namespace}/${name}   ${id.slice(0, 13)}   ${ready ? 'ready' : 'not ready'}   netns ${netnsOf(pod)}`,
    ...section('problem', problem === undefined ? [] : [problem]),
    ...section('interfaces', columns(interfaces.map(interfaceCells))),
    ...section('routes', routes),
    ...section('masquerade', rules.masquerade.map(withoutComment)),
    ...section('ports', rules.portMapping.map(withoutComment)),
    ...section('rules', rules.other.map(withoutComment)),
    ...attachments.flatMap(({ file, network, ifName, plugins, result }) => [
      `  ${file ?? 'a file that is not known any more'}: network ${network} as ${ifName}`,
      ...(plugins.length === 0
        ? []
        : [`    made by ${plugins.map(({ plugin, ms }) => `${plugin} (${Math.round(ms)} ms)`).join(', ')}`]),
      `    result ${JSON.stringify(result)}`,
    ]),
  ];
}

function interfaceCells({ name, kind, addresses, mtu, up, mac, host, over }: PodInterface): string[] {
  const otherEnd =
    host === undefined
      ? over === undefined
        ? ''
        : `on ${over}`
      : `<-> ${host.name}${host.bridge === undefined ? '' : ` on ${host.bridge}`}`;
  return [name, kind, addresses.join(' ') || '-', mac, `mtu ${mtu}`, up ? 'up' : 'down', otherEnd];
}

/** Comments hold the pod's id, which stands above them already. */
function withoutComment(rule: string): string {
  return rule.replace(/ -m comment --comment ("(?:[^"\\]|\\.)*"|\S+)/, '');
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.map((line, i) => `  ${(i === 0 ? title : '').padEnd(11)} ${line}`);
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)));
  return rows.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

export function traceText({ from, to, hops, end, outcome }: Trace): string {
  const width = Math.max(...hops.map(({ at }) => at.length));
  const indent = ' '.repeat(width + 6);
  const lines = hops.flatMap(({ at, what, because, packet }, i) => [
    `${String(i + 1).padStart(2)}  ${at === hops[i - 1]?.at ? ' '.repeat(width) : at.padEnd(width)}  ${what}`,
    ...(because === undefined ? [] : [`${indent}    ${withoutComment(because)}`]),
    ...(packet === undefined ? [] : [`${indent}    now ${packet}`]),
  ]);
  return [`${from} -> ${to}`, '', ...lines, '', `${outcome === 'dropped' ? 'DROPPED: ' : ''}${end}`].join(
    '\n',
  );
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
