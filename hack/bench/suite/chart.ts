// Bars side by side, as SVG.
export interface BarGroup {
  name: string;
  bars: { name: string; value: number }[];
}

const colors = ['#9aa0a6', '#1a73e8', '#12a4af', '#e8710a'];
const [width, labelWidth, barHeight, gap] = [760, 150, 16, 14];

/** @param names what the bars of each group may be of, in the order of their colours */
export function barChart(title: string, names: readonly string[], groups: readonly BarGroup[]): string {
  const longest = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const scale = (width - labelWidth - 60) / longest;
  const parts: string[] = [text(10, 22, title, 'font-weight="bold"')];
  names.forEach((name, index) => {
    const x = labelWidth + index * 130;
    parts.push(rect(x, 34, 12, 12, index), text(x + 17, 44, name));
  });
  let y = 64;
  for (const { name, bars } of groups) {
    parts.push(text(10, y + (bars.length * barHeight) / 2 + 4, name));
    for (const bar of bars) {
      const length = Math.max(1, bar.value * scale);
      parts.push(rect(labelWidth, y, length, barHeight - 3, names.indexOf(bar.name)));
      parts.push(text(labelWidth + length + 6, y + barHeight - 5, bar.value.toFixed(1)));
      y += barHeight;
    }
    y += gap;
  }
  const style = 'font-family="sans-serif" font-size="12"';
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" ${style}>
<rect width="100%" height="100%" fill="white"/>
${parts.join('\n')}
</svg>
`;
}

const rect = (x: number, y: number, w: number, h: number, color: number) =>
  `<rect x="${x}" y="${y}" width="${w.toFixed(1)}" height="${h}" fill="${colors[color] ?? 'black'}"/>`;
const text = (x: number, y: number, words: string, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;
