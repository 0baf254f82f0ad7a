// One node in a picture: its pods on their bridges, below them its routing and translation, and the devices by which
// packets leave it. Everything is placed by counting: no layout library, and the same node gives the same picture.
import { basename } from 'node:path';
import type { Link } from '../../host/net-tables.ts';
import { type NodeNetwork, nodeDevices, routeText } from '../node.ts';
import { bent, box, clip, colours, line, lineHeight, move, type Part, text, textWidth } from './elements.ts';
import { columnsFor, columnsWidth, drawGroup, groupByBridge, hostPorts, trunk } from './pods.ts';

const padding = 24;
const bridgeHeight = 38;
const minInner = 580;
/** A node is made wider than its pods and devices need for the sake of its routes, but not beyond this. */
const maxForRouting = 800;
/** Between what stands one below the other. */
const spacing = 30;
const deviceGap = 20;
const minDeviceWidth = 150;
const maxDeviceWidth = 320;
/** From the routing down to a device. */
const leadHeight = 26;
const maxRoutes = 8;
const maxFiles = 6;
const maxPorts = 4;

/** Where a device that leads out of the node ends, in the node's own coordinates. */
export interface Uplink {
  x: number;
  y: number;
  device: Link;
}

export interface Panel extends Part {
  uplinks: Uplink[];
}

export function drawNode(node: NodeNetwork): Panel {
  const columns = columnsFor(node.pods.length);
  const devices = deviceBoxes(node);
  const devicesWidth = devices.reduce((sum, { width }) => sum + width + deviceGap, -deviceGap);
  const routing = Math.min(routingColumns(node).width, maxForRouting);
  const inner = Math.max(columnsWidth(columns), devicesWidth - trunk, routing - trunk, minInner);
  const whole = inner + trunk;
  const elements: string[] = [];
  let y = padding + 8;
  const put = ({ elements: drawn, height }: Part) => {
    elements.push(move(padding, y, drawn));
    y += height;
  };
  put(drawHead(node, whole));
  put(drawBridges(node, columns, inner));
  put(drawRouting(node, whole));
  const { uplinks, ...drawn } = drawDevices(devices, padding + (whole - devicesWidth) / 2, y);
  elements.push(...drawn.elements);
  y += drawn.height;
  return { elements, width: whole + padding * 2, height: y + padding, uplinks };
}

/** Its name, whether it forwards, and which files and plugins made the pods' interfaces: mostly the same, so said once. */
function drawHead({ name, pods, tables: { forwarding } }: NodeNetwork, width: number): Part {
  const yesNo = (value: boolean) => (value ? 'yes' : 'no');
  const files = pods.flatMap(({ attachments }) =>
    attachments.map(({ file, network, ifName, plugins }) => {
      const by = plugins.map(({ plugin }) => plugin).join(', ');
      return `${file === undefined ? 'CNI' : basename(file)}: network ${network} as ${ifName}${by === '' ? '' : `, by ${by}`}`;
    }),
  );
  const shown = [...new Set(files)].slice(0, maxFiles);
  const faint = { colour: colours.faint };
  const title = { size: 18, bold: true };
  const forwards = `forwards IPv4: ${yesNo(forwarding.ipv4)}   IPv6: ${yesNo(forwarding.ipv6)}`;
  const room = width - textWidth(forwards) - spacing;
  return {
    width,
    height: 8 + shown.length * lineHeight + 20,
    elements: [
      text(0, 0, clip(`node ${name}`, room, title), title),
      text(width, 0, forwards, { ...faint, anchor: 'end' }),
      ...shown.map((entry, i) =>
        text(0, 8 + (i + 1) * lineHeight, clip(entry, width, { mono: true }), { mono: true, ...faint }),
      ),
    ],
  };
}

/** Bridges with their pods, and from each a line to the routing below. */
function drawBridges(node: NodeNetwork, columns: number, inner: number): Part {
  const groups = groupByBridge(node);
  const whole = inner + trunk;
  const isSingle = groups.filter(({ bridge }) => bridge).length === 1;
  // Of several bridges each is led past the others, on the right.
  const barWidth = isSingle ? whole : whole - 24;
  const elements: string[] = [];
  const joints: number[] = [];
  let y = 0;
  for (const [i, group] of groups.entries()) {
    const { bridge } = group;
    const colour = bridge ? (colours.bridges[i % colours.bridges.length] ?? colours.ink) : colours.faint;
    const drawn = drawGroup(group, { columns, inner, colour });
    elements.push(move(0, y, drawn.elements));
    y += drawn.height;
    if (bridge) {
      elements.push(...drawBar(bridge, y, barWidth, colour));
      joints.push(isSingle ? y + bridgeHeight : y + bridgeHeight / 2);
      y += bridgeHeight;
    }
    y += spacing;
  }
  for (const joint of joints) {
    const points: [number, number][] = isSingle
      ? [
          [whole / 2, joint],
          [whole / 2, y],
        ]
      : [
          [barWidth, joint],
          [whole - 8, joint],
          [whole - 8, y],
        ];
    elements.push(bent(points, colours.routingEdge));
  }
  return { elements, width: whole, height: y };
}

function drawBar(bridge: Link, y: number, width: number, colour: string): string[] {
  const name = { bold: true, colour: '#ffffff', size: 14 };
  const facts = { mono: true, colour: '#ffffff', anchor: 'end' } as const;
  const said = [bridge.addresses.join('  '), `mtu ${bridge.mtu}`, bridge.up ? '' : 'down'].filter(Boolean);
  const title = `bridge ${bridge.name}`;
  const room = width - 28 - textWidth(title, name) - spacing;
  return [
    box(0, y, width, bridgeHeight, { fill: colour, edge: colour }),
    text(14, y + 24, title, name),
    text(width - 14, y + 24, clip(said.join('   '), room, facts), facts),
  ];
}

/** Routes, and what is translated: the part of the node between its bridges and its devices. */
function drawRouting(node: NodeNetwork, width: number): Part {
  const { left, right, leftWidth, rightWidth } = routingColumns(node);
  const height = 42 + Math.max(left.length, right.length, 1) * lineHeight;
  const half = Math.min(Math.max(width * 0.5, leftWidth), Math.max(width - rightWidth, width * 0.6));
  const mono = { mono: true };
  return {
    width,
    height,
    elements: [
      box(0, 0, width, height, { fill: colours.routing, edge: colours.routingEdge }),
      text(14, 22, 'routes', { bold: true }),
      text(half + 8, 22, 'address translation', { bold: true }),
      ...left.map((entry, i) => text(14, 42 + i * lineHeight, clip(entry, half - 20, mono), mono)),
      ...right.map((entry, i) =>
        text(half + 8, 42 + i * lineHeight, clip(entry, width - half - 20, mono), mono),
      ),
    ],
  };
}

function routingColumns(node: NodeNetwork) {
  const routes = node.tables.routes.map(route => routeText({ ...route, prefsrc: undefined }));
  const more = routes.length > maxRoutes ? [`and ${routes.length - maxRoutes} more`] : [];
  const left = [...routes.slice(0, maxRoutes), ...more];
  const right = translations(node);
  const widest = (lines: readonly string[]) =>
    Math.max(130, ...lines.map(entry => textWidth(entry, { mono: true }))) + 36;
  const [leftWidth, rightWidth] = [widest(left), widest(right)];
  return { left, right, leftWidth, rightWidth, width: leftWidth + rightWidth };
}

function translations({ pods, nft }: NodeNetwork): string[] {
  const masqueraded = pods.filter(({ rules }) => rules.masquerade.some(rule => /masquerade/i.test(rule)));
  const tables = new Map<string, number>();
  for (const { family, table } of nft.rules)
    tables.set(`${family} ${table}`, (tables.get(`${family} ${table}`) ?? 0) + 1);
  const ports = pods.flatMap(pod => hostPorts(pod).map(port => `port ${port} of ${pod.name}`));
  return [
    ...(masqueraded.length > 0 ? [`masquerade for ${masqueraded.length} of ${pods.length} pods`] : []),
    ...ports.slice(0, maxPorts),
    ...(ports.length > maxPorts ? [`and ${ports.length - maxPorts} more ports`] : []),
    ...[...tables].map(([name, count]) => `nftables ${name}: ${count} rules`),
  ];
}

interface DeviceBox {
  device: Link;
  title: string;
  lines: string[];
  width: number;
}

const deviceTitle = { bold: true, anchor: 'middle' } as const;
const deviceFact = { mono: true, anchor: 'middle' } as const;

/** What is not a bridge and not the end of a pod's cable: devices with an address, and others that were made and are up. */
function deviceBoxes(node: NodeNetwork): DeviceBox[] {
  return nodeDevices(node)
    .filter(({ kind, addresses, up }) => kind !== 'bridge' && (addresses.length > 0 || (up && kind !== '')))
    .map(device => {
      const { name, kind, vxlan, addresses, mtu, up } = device;
      const title = kind === 'vxlan' ? `${name} (VXLAN ${vxlan?.id ?? ''})` : name;
      const lines = [...addresses.slice(0, 3), `mtu ${mtu}${up ? '' : '   down'}`];
      const widest = Math.max(
        textWidth(title, deviceTitle),
        ...lines.map(entry => textWidth(entry, deviceFact)),
      );
      return { device, title, lines, width: Math.min(maxDeviceWidth, Math.max(minDeviceWidth, widest + 28)) };
    });
}

/** Devices in a row from `left` on; above each the line that leads to it from the routing at `top`. */
function drawDevices(boxes: readonly DeviceBox[], left: number, top: number): Panel {
  const elements: string[] = [];
  const uplinks: Uplink[] = [];
  const tunnels: { x: number; device: Link }[] = [];
  const tallest = Math.max(0, ...boxes.map(({ lines }) => lines.length));
  const height = 32 + tallest * lineHeight;
  const y = top + leadHeight;
  let from = left;
  for (const { device, title, lines, width } of boxes) {
    const isTunnel = device.kind === 'vxlan';
    const [fill, edge] = isTunnel ? [colours.vxlan, colours.vxlanEdge] : [colours.device, colours.deviceEdge];
    const x = from + width / 2;
    const place = (entry: string, below: number, style: typeof deviceTitle | typeof deviceFact) =>
      text(x, y + below, clip(entry, width - 16, style), style);
    elements.push(
      line(x, top, x, y, edge, 2),
      box(from, y, width, height, { fill, edge }),
      place(title, 21, deviceTitle),
      ...lines.map((entry, i) => place(entry, 40 + i * lineHeight, deviceFact)),
    );
    if (isTunnel) tunnels.push({ x, device });
    else uplinks.push({ x, y: y + height, device });
    from += width + deviceGap;
  }
  // A tunnel's packets leave by the device under it.
  const foot = y + height;
  for (const { x, device } of tunnels) {
    const under = uplinks.find(uplink => uplink.device.name === device.vxlan?.link) ?? uplinks[0];
    if (!under) continue;
    const to = under.x + Math.sign(x - under.x) * 24;
    const corners: [number, number][] = [
      [x, foot],
      [x, foot + 14],
      [to, foot + 14],
      [to, foot],
    ];
    elements.push(
      bent(corners, colours.vxlanEdge, '5 4'),
      text(x, foot + 29, 'as UDP', { anchor: 'middle', colour: colours.vxlanEdge, size: 11 }),
    );
  }
  const below = tunnels.length > 0 ? 20 : 0;
  return { elements, uplinks, width: from - deviceGap - left, height: leadHeight + height + below };
}
