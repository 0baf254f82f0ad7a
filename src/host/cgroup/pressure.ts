// Pressure files: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same with `full`; totals in microseconds.
import type { ReadText } from './files.ts';
import type { Pressure, PressureLine, PressureResource } from './types.ts';

/** Pressure of a cgroup v2 directory, also one of the unified hierarchy beside cgroup v1. */
export function readPressure(
  directory: string,
  resource: PressureResource,
  read: ReadText,
): Pressure | undefined {
  const text = read(`${directory}/${resource}.pressure`);
  return text === undefined ? undefined : parsePressure(text);
}

export function parsePressure(text: string): Pressure {
  const lines = new Map(text.split('\n').map(line => [line.slice(0, 4), line]));
  return { some: parseLine(lines.get('some')), full: parseLine(lines.get('full')) };
}

const shape = /avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)/;

function parseLine(line: string | undefined): PressureLine | undefined {
  const [, avg10, avg60, avg300, total] = shape.exec(line ?? '') ?? [];
  if (total === undefined) return undefined;
  return {
    avg10: Number(avg10),
    avg60: Number(avg60),
    avg300: Number(avg300),
    totalNs: Number(total) * 1000,
  };
}
