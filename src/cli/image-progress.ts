// Progress of a pull or import: on a terminal one line a layer, drawn again in place; elsewhere nothing.
import type { LayerProgress } from '../image/layers.ts';

export interface ProgressView {
  update(progress: LayerProgress): void;
  end(): void;
}

const redrawMs = 100;
const barWidth = 24;

export function createProgressView(out: NodeJS.WriteStream, quiet: boolean): ProgressView {
  if (quiet || !out.isTTY) return { update() {}, end() {} };
  const layers = new Map<string, LayerProgress & { began: number }>();
  let drawn = 0;
  const draw = () => {
    const rows = [...layers.values()].slice(-Math.max(1, (out.rows ?? 24) - 1)).map(line);
    out.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}${rows.map(row => `\x1b[2K${row}\n`).join('')}`);
    drawn = rows.length;
  };
  const timer = setInterval(draw, redrawMs);
  return {
    update(progress) {
      const began = layers.get(progress.digest)?.began ?? performance.now();
      layers.set(progress.digest, { ...progress, began });
    },
    end() {
      clearInterval(timer);
      if (layers.size > 0) draw();
    },
  };
}

function line({ digest, phase, bytes, total, began }: LayerProgress & { began: number }): string {
  const short = digest.slice(digest.indexOf(':') + 1).slice(0, 12);
  const share = total > 0 ? Math.min(1, bytes / total) : 1;
  const done = phase === 'done' || phase === 'exists';
  const filled = Math.round((done ? 1 : share) * barWidth);
  const bar = `${'='.repeat(filled)}${' '.repeat(barWidth - filled)}`;
  const seconds = (performance.now() - began) / 1000;
  const rate = phase === 'downloading' && seconds > 0 ? `${formatBytes(bytes / seconds)}/s` : '';
  return `${short}  [${bar}]  ${phase.padEnd(11)}  ${formatBytes(done ? total : bytes)}/${formatBytes(total)}  ${rate}`;
}

/** Decimal units, as registries and disks count. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
