// Pods in a picture: each a card, in rows; each with its cable down to a rail, and the rails down to the bridge.
import type { Link } from '../../host/net-tables.ts';
import { type NodeNetwork, netnsOf, type PodNetwork } from '../node.ts';
import { box, clip, colours, line, lineHeight, type Part, text } from './elements.ts';

const cardWidth = 208;
const gap = 20;
const cableHeight = 46;
const rowGap = 24;
const maxColumns = 6;
/** The space left of the cards, where a bridge's rails are joined. */
export const trunk = 18;

export interface Group {
  /** undefined: pods that no bridge carries. */
  bridge: Link | undefined;
  pods: PodNetwork[];
}

export function groupByBridge({ pods, tables }: NodeNetwork): Group[] {
  const bridgeOf = (pod: PodNetwork) => mainInterface(pod)?.host?.bridge;
  const bridges = tables.links.filter(({ kind }) => kind === 'bridge');
  const onBridge = bridges.map(bridge => ({
    bridge,
    pods: pods.filter(pod => bridgeOf(pod) === bridge.name),
  }));
  const others = pods.filter(pod => !bridges.some(({ name }) => name === bridgeOf(pod)));
  return [...(others.length > 0 ? [{ bridge: undefined, pods: others }] : []), ...onBridge];
}

function mainInterface({ interfaces }: PodNetwork): PodNetwork['interfaces'][number] | undefined {
  return interfaces.find(({ kind }) => kind !== 'loopback');
}

/** How many cards stand side by side. */
export function columnsFor(pods: number): number {
  if (pods <= 4) return Math.max(2, pods);
  return Math.min(maxColumns, Math.max(3, Math.ceil(Math.sqrt(pods * 1.2))));
}

export function columnsWidth(columns: number): number {
  return columns * cardWidth + (columns - 1) * gap;
}

/** Rows of pods, each row on a rail; the rails are joined on the left and lead down to the bridge, which comes below. */
export function drawGroup(
  { pods, bridge }: Group,
  { columns, inner, colour }: { columns: number; inner: number; colour: string },
): Part {
  const elements: string[] = [];
  const rails: number[] = [];
  const rows = Math.ceil(pods.length / columns);
  let y = 0;
  for (let row = 0; row < rows; row++) {
    const inRow = pods.slice(row * columns, (row + 1) * columns);
    const cards = inRow.map(cardLines);
    const height =
      46 + Math.max(...cards.map(({ faint, plain }) => faint.length + plain.length)) * lineHeight;
    const used = columnsWidth(inRow.length);
    const start = rows === 1 ? (trunk + inner - used) / 2 : trunk;
    const railY = y + height + cableHeight;
    for (const [i, pod] of inRow.entries()) {
      const x = start + i * (cardWidth + gap);
      elements.push(...drawCard(pod, cards[i] ?? { faint: [], plain: [] }, x, y, height));
      elements.push(...drawCable(pod, x + cardWidth / 2, y + height, railY, colour));
    }
    const isLast = row === rows - 1;
    if (bridge && !isLast) {
      elements.push(line(trunk / 2 - 4, railY, start + used - cardWidth / 2, railY, colour, 3));
      rails.push(railY);
    }
    y = railY + (isLast ? 0 : rowGap);
  }
  const [top] = rails;
  if (top !== undefined) elements.push(line(trunk / 2 - 4, top, trunk / 2 - 4, y, colour, 3));
  return { elements, width: inner + trunk, height: bridge === undefined ? y - cableHeight : y };
}

function drawCable(pod: PodNetwork, x: number, from: number, to: number, colour: string): string[] {
  const cable = mainInterface(pod)?.host;
  if (!cable) return [];
  const style = { mono: true, colour: colours.faint };
  return [
    line(x, from, x, to, colour, 2),
    `<circle cx="${x}" cy="${from}" r="4.5" fill="${colour}"/>`,
    text(x + 9, from + 27, clip(cable.name, cardWidth / 2 + gap - 12, style), style),
  ];
}

/** What stands on a card below the pod's name. */
interface CardLines {
  faint: string[];
  plain: string[];
}

function cardLines(pod: PodNetwork): CardLines {
  const namespace = pod.namespace === 'default' ? [] : [`namespace ${pod.namespace}`];
  if (pod.netns === null) return { faint: namespace, plain: ["the node's own network"] };
  const interfaces = pod.interfaces.flatMap(({ name, addresses }) =>
    addresses.length === 0
      ? [`${name} -`]
      : addresses.map((address, i) => `${i === 0 ? name : ' '.repeat(name.length)} ${address}`),
  );
  return {
    faint: [...namespace, `netns ${netnsOf(pod).slice(0, 12)}`],
    plain: [
      ...(pod.ready ? [] : ['not ready']),
      ...(pod.problem === undefined ? [] : ['cannot be read']),
      ...interfaces.filter(entry => !/ ::1\/128$/.test(entry)),
      ...hostPorts(pod).map(port => `host port ${port}`),
    ],
  };
}

/** `8080 -> 80` for each port of the host that leads to the pod. */
export function hostPorts({ rules }: PodNetwork): string[] {
  const found = rules.portMapping.flatMap(rule => {
    const ports = /--dport (\d+) .*--to-destination \S*?:(\d+)$/.exec(rule);
    return ports ? [`${ports[1]} -> ${ports[2]}`] : [];
  });
  return [...new Set(found)];
}

function drawCard(
  pod: PodNetwork,
  { faint, plain }: CardLines,
  x: number,
  y: number,
  height: number,
): string[] {
  const name = { bold: true, size: 14 };
  return [
    `<g opacity="${pod.ready ? 1 : 0.45}">`,
    box(x, y, cardWidth, height, { fill: colours.card, edge: colours.cardEdge }),
    text(x + 12, y + 22, clip(pod.name, cardWidth - 24, name), name),
    ...[...faint, ...plain].map((entry, i) => {
      const style = { mono: true, colour: i < faint.length ? colours.faint : colours.ink };
      return text(x + 12, y + 42 + i * lineHeight, clip(entry, cardWidth - 22, style), style);
    }),
    '</g>',
  ];
}
