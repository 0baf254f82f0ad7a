// The picture of `cri-ts net --svg`: nodes side by side, and below them the links that join their devices.
import { inPrefix } from '../firewall/packet.ts';
import type { NodeNetwork } from '../node.ts';
import { box, colours, line, move, picture, text } from './elements.ts';
import { drawNode, type Uplink } from './node.ts';

const margin = 28;
const gap = 40;
const linkHeight = 40;

export function drawNodes(nodes: readonly NodeNetwork[]): string {
  const panels = nodes.map(drawNode);
  const tallest = Math.max(0, ...panels.map(({ height }) => height));
  const bottom = margin + tallest;
  const boxes: string[] = [];
  const uplinks: Uplink[] = [];
  let x = margin;
  for (const { width, elements, uplinks: own } of panels) {
    boxes.push(
      box(x, margin, width, tallest, { edge: colours.panelEdge, fill: colours.panel }),
      move(x, margin, elements),
    );
    uplinks.push(...own.map(uplink => ({ ...uplink, x: x + uplink.x, y: margin + uplink.y })));
    x += width + gap;
  }
  const links = drawLinks(uplinks, bottom + linkHeight - 8);
  const title = `Pod network of ${nodes.map(({ name }) => name).join(' and ')}`;
  return picture(x - gap + margin, links.bottom + margin, title, [...boxes, ...links.elements]);
}

/** For each subnet a bar, and from each device in it a line down to that. Those of one device stand highest. */
function drawLinks(uplinks: readonly Uplink[], top: number): { elements: string[]; bottom: number } {
  const subnets = new Map<string, Uplink[]>();
  for (const uplink of uplinks) {
    const { addresses } = uplink.device;
    const own = addresses.find(address => address.includes('.')) ?? addresses[0];
    if (own === undefined) continue;
    const shared = [...subnets.keys()].find(subnet => inPrefix(own.split('/')[0] ?? '', subnet));
    subnets.set(shared ?? own, [...(subnets.get(shared ?? own) ?? []), uplink]);
  }
  const single = [...subnets].filter(([, members]) => members.length === 1);
  const joint = [...subnets].filter(([, members]) => members.length > 1);
  const elements: string[] = [];
  let y = top;
  const draw = (subnet: string, members: readonly Uplink[]) => {
    const places = members.map(({ x }) => x);
    const [from, to] = [Math.min(...places) - 60, Math.max(...places) + 60];
    const style = { mono: true, anchor: 'middle', colour: colours.faint } as const;
    elements.push(
      ...members.map(member => line(member.x, member.y, member.x, y, colours.deviceEdge, 2)),
      line(from, y, to, y, colours.deviceEdge, 5),
      text((from + to) / 2, y + 20, networkOf(subnet), style),
    );
  };
  for (const [subnet, members] of single) draw(subnet, members);
  if (single.length > 0) y += linkHeight;
  for (const [subnet, members] of joint) {
    draw(subnet, members);
    y += linkHeight;
  }
  return { elements, bottom: y - linkHeight + 20 };
}

/** `10.240.0.80/24` -> `10.240.0.0/24`; IPv6 stays as it is. */
function networkOf(address: string): string {
  const [ip = '', length = ''] = address.split('/');
  if (ip.includes(':')) return address;
  const bits = Number(length);
  const value = ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const network = value - (value % 2 ** (32 - bits));
  return `${[24, 16, 8, 0].map(shift => Math.floor(network / 2 ** shift) % 256).join('.')}/${length}`;
}
