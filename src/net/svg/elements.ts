// What pictures are made of: boxes, lines and texts as SVG elements, and how much room a text takes. There is nobody to ask
// how wide a text will be, so widths are those of common fonts, rather too wide than too narrow.

/** A drawn part: its elements, placed from its own upper left corner, and what it takes. */
export interface Part {
  elements: string[];
  width: number;
  height: number;
}

export const lineHeight = 17;

export const colours = {
  ink: '#1f2733',
  faint: '#66707f',
  panel: '#f6f8fb',
  panelEdge: '#cfd7e3',
  card: '#ffffff',
  cardEdge: '#9fb0c8',
  bridges: ['#2f6db5', '#b5652f', '#2f8f6b', '#7a4fb0'],
  routing: '#fff7e2',
  routingEdge: '#d9b65c',
  device: '#e7eef7',
  deviceEdge: '#6f8fb8',
  vxlan: '#efe6f7',
  vxlanEdge: '#8d6bb8',
} as const;

export interface TextStyle {
  /** Of fixed width. */
  mono?: boolean;
  bold?: boolean;
  size?: number;
  colour?: string;
  anchor?: 'start' | 'middle' | 'end';
}

const monoSize = 11.5;
const textSize = 13;

/** Pixels. */
export function textWidth(content: string, { mono, bold, size }: TextStyle = {}): number {
  if (mono) return content.length * monoSize * 0.604;
  const ems = [...content].reduce((sum, char) => sum + emsOf(char), 0);
  return ems * (size ?? textSize) * (bold ? 1.1 : 1);
}

/** Width of a character of a proportional font, in parts of its size. */
function emsOf(char: string): number {
  if (/[fijlrt.,:;' ()I|-]/.test(char)) return 0.43;
  if (/[mwMW@%]/.test(char)) return 1;
  return /[A-Z\u2026]/.test(char) ? 0.8 : 0.64;
}

/** Cuts a text to what fits into a width. */
export function clip(content: string, width: number, style: TextStyle = {}): string {
  if (textWidth(content, style) <= width) return content;
  let kept = content;
  while (kept.length > 1 && textWidth(`${kept}\u2026`, style) > width) kept = kept.slice(0, -1);
  return `${kept}\u2026`;
}

export function text(x: number, y: number, content: string, style: TextStyle = {}): string {
  const { mono, bold, size, colour = colours.ink, anchor = 'start' } = style;
  const classes = [...(mono ? ['m'] : []), ...(bold ? ['b'] : [])].join(' ');
  const attributes = [
    `x="${round(x)}" y="${round(y)}" fill="${colour}"`,
    ...(classes === '' ? [] : [`class="${classes}"`]),
    ...(size === undefined ? [] : [`font-size="${size}"`]),
    ...(anchor === 'start' ? [] : [`text-anchor="${anchor}"`]),
  ];
  return `<text ${attributes.join(' ')} xml:space="preserve">${escapeXml(content)}</text>`;
}

export function box(
  x: number,
  y: number,
  width: number,
  height: number,
  { fill, edge }: { fill: string; edge: string },
): string {
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="7" fill="${fill}" stroke="${edge}" stroke-width="1.5"/>`;
}

export function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  colour: string,
  thickness: number,
): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${thickness}" stroke-linecap="round"/>`;
}

/** A line with corners, through points. */
export function bent(points: readonly (readonly [number, number])[], colour: string, dashes = ''): string {
  const path = points.map(([x, y], i) => `${i === 0 ? 'M' : 'L'} ${round(x)} ${round(y)}`).join(' ');
  const dashed = dashes === '' ? '' : ` stroke-dasharray="${dashes}"`;
  return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dashed}/>`;
}

export function move(x: number, y: number, elements: readonly string[]): string {
  return `<g transform="translate(${round(x)} ${round(y)})">\n${elements.join('\n')}\n</g>`;
}

/** The whole picture. */
export function picture(width: number, height: number, title: string, elements: readonly string[]): string {
  const [w, h] = [round(width), round(height)];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" font-family="'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="${textSize}">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>.m{font-family:"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:${monoSize}px}.b{font-weight:600}</style>`,
    `<rect width="${w}" height="${h}" fill="#ffffff"/>`,
    ...elements,
    '</svg>',
    '',
  ].join('\n');
}

function escapeXml(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
