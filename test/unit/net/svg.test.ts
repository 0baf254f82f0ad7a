import { describe, expect, it } from 'vitest';
import { textWidth } from '../../../src/net/svg/elements.ts';
import { drawNodes } from '../../../src/net/svg/nodes.ts';
import { crowdedNode, nodeWith } from './nodes.ts';

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Cards of pods: the white boxes, whose coordinates are all of one group. */
function cards(svg: string): Box[] {
  const found = svg.matchAll(
    /<rect x="([\d.]+)" y="([\d.]+)" width="208" height="([\d.]+)" rx="7" fill="#ffffff"/g,
  );
  return [...found].map(([, x, y, height]) => ({
    x: Number(x),
    y: Number(y),
    width: 208,
    height: Number(height),
  }));
}

/** Where each text stands in the whole picture. */
function texts(svg: string): (Box & { content: string })[] {
  const found: (Box & { content: string })[] = [];
  const moved: [number, number][] = [[0, 0]];
  for (const element of svg.split('\n')) {
    const [x, y] = moved.at(-1) ?? [0, 0];
    if (element.startsWith('</g>')) moved.pop();
    if (element.startsWith('<g')) {
      const [, dx = '0', dy = '0'] = /translate\(([\d.]+) ([\d.]+)\)/.exec(element) ?? [];
      moved.push([x + Number(dx), y + Number(dy)]);
    }
    const [, tx, ty, rest = '', content = ''] =
      /^<text x="([\d.]+)" y="([\d.]+)" (.*?)>(.*)<\/text>$/.exec(element) ?? [];
    if (tx === undefined) continue;
    const mono = /class="m/.test(rest);
    const size = Number(/font-size="([\d.]+)"/.exec(rest)?.[1] ?? (mono ? 11.5 : 13));
    const plain = content.replaceAll(/&\w+;/g, '&');
    const width = textWidth(plain, { mono, bold: / ?b"/.test(rest), size });
    const before = rest.includes('"end"') ? width : rest.includes('"middle"') ? width / 2 : 0;
    const height = size * 0.8;
    found.push({ x: x + Number(tx) - before, y: y + Number(ty) - height, width, height, content });
  }
  return found;
}

const overlap = (a: Box, b: Box) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

describe('the picture of a node', () => {
  it.each([1, 2, 4, 5, 7, 30, 31, 110])('shows each of %i pods on a card of its own', count => {
    const node = nodeWith(count);
    const svg = drawNodes([node]);
    for (const { name, interfaces } of node.pods) {
      expect(svg).toContain(`>${name}</text>`);
      expect(svg).toContain(interfaces[1]?.host?.name);
    }
    const boxes = cards(svg);
    expect(boxes).toHaveLength(count);
    const pairs = boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => overlap(a, b)));
    expect(pairs).toEqual([]);
  });

  it.each([
    ['2 pods', [nodeWith(2)]],
    ['30 pods', [nodeWith(30)]],
    ['two nodes', [nodeWith(2), nodeWith(5)]],
    ['long names, many devices and bridges', [crowdedNode(9), nodeWith(2)]],
  ])('has no text over another, and none outside: %s', (_, nodes) => {
    const svg = drawNodes(nodes);
    const [, width = '', height = ''] = /viewBox="0 0 ([\d.]+) ([\d.]+)"/.exec(svg) ?? [];
    const all = texts(svg);
    expect(all.length).toBeGreaterThan(10);
    const pairs = all.flatMap((a, i) => all.slice(i + 1).flatMap(b => (overlap(a, b) ? [[a, b]] : [])));
    expect(pairs).toEqual([]);
    expect(all.filter(({ x, y }) => x < 0 || y < 0)).toEqual([]);
    expect(
      all.filter(box => box.x + box.width > Number(width) || box.y + box.height > Number(height)),
    ).toEqual([]);
  });

  it('is well-formed whatever pods are called', () => {
    const svg = drawNodes([nodeWith(2, () => '<a> & "b"')]);
    expect(svg).toContain('&lt;a&gt; &amp; "b"');
    const opened = svg.match(/<(svg|g|text|style|title)[ >]/g)?.length;
    expect(svg.match(/<\/(svg|g|text|style|title)>/g)).toHaveLength(opened ?? 0);
  });

  it('shortens a name that is longer than its card', () => {
    const long = 'a-very-long-name-of-a-deployment-7d4b9c6f5d-x2x4z';
    const svg = drawNodes([nodeWith(1, () => long)]);
    expect(svg).not.toContain(long);
    expect(svg).toContain('a-very-long-name');
  });

  it('is the same for the same node', () => {
    expect(drawNodes([nodeWith(9)])).toBe(drawNodes([nodeWith(9)]));
  });

  it('joins nodes of one subnet by one link', () => {
    const other = nodeWith(2);
    other.name = 'node-1';
    other.tables.links = other.tables.links.map(link =>
      link.name === 'eth0' ? { ...link, addresses: ['10.240.0.81/24'] } : link,
    );
    const svg = drawNodes([nodeWith(2), other]);
    expect(svg.match(/>10\.240\.0\.0\/24</g)).toHaveLength(1);
  });
});
