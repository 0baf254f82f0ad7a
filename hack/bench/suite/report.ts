// What was measured, as a table and a chart for docs/performance.md, and as JSON beside them.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { barChart } from './chart.ts';
import type { CrowdResult, Values } from './measures.ts';
import { median, quantile } from './numbers.ts';
import { type Call, calls } from './pods.ts';

export interface Figures {
  rounds: number;
  pods: number;
  calls: Record<Call | 'up', Values>;
  rates: Record<number, { podsPerSecond: Values; cpuSecondsPerLife: Values }>;
  eventLoopMs: number;
  logMbPerSecond: Values;
  crowd: Record<string, CrowdResult>;
}

interface Verdict {
  figure: string;
  value: number;
  target: number;
  atLeast?: boolean;
  met: boolean;
}

const [us, them, floor, crun] = ['cri-ts', 'containerd', 'floor', 'cri-ts, crun'] as const;

/** Each target of the project, and whether this run met it. */
export function judge({ calls, rates, crowd }: Figures): Verdict[] {
  const of = (values: Values | undefined, name: string) => median(values?.[name] ?? []);
  const ratio = (values: Values | undefined, a: string, b: string) => of(values, a) / of(values, b);
  const at = (name: string, pods: number) => crowd[name]?.crowds.find(each => each.pods === pods);
  const starts = crowd[us]?.starts ?? [];
  const restart = (name: string) => median(crowd[name]?.restarts ?? []);
  const stats = (name: string) => median(at(name, 100)?.answers.ListContainerStats ?? []);
  const most = (figure: string, value: number, target: number): Verdict => ({
    figure,
    value,
    target,
    met: value <= target,
  });
  const verdicts = [
    most('RunPodSandbox / floor', ratio(calls.RunPodSandbox, us, floor), 1.15),
    most('RunPodSandbox / containerd', ratio(calls.RunPodSandbox, us, them), 0.5),
    most('RunPodSandbox + CreateContainer + StartContainer / containerd', ratio(calls.up, us, them), 0.6),
    most('the same with crun / containerd with runc', of(calls.up, crun) / of(calls.up, them), 0.35),
    most('StopPodSandbox / containerd', ratio(calls.StopPodSandbox, us, them), 0.8),
    most('ExecSync / containerd', ratio(calls.ExecSync, us, them), 1),
    {
      ...most('pods a second, 4 in flight / containerd', ratio(rates[4]?.podsPerSecond, us, them), 1.5),
      atLeast: true,
    },
    most(
      'growth: last thirty / first thirty pods of all',
      median(starts.slice(-30)) / median(starts.slice(0, 30)),
      1.15,
    ),
    most(
      'memory at 100 pods / containerd',
      (at(us, 100)?.memoryMb ?? Number.NaN) / (at(them, 100)?.memoryMb ?? 0),
      0.25,
    ),
    most('idle CPU at 100 pods, polled, % of a core', at(us, 100)?.idleCpu?.polled ?? Number.NaN, 2),
    most('ListContainerStats at 100 containers / containerd', stats(us) / stats(them), 0.3),
    most('daemon start with all pods, ms', restart(us), 1000),
    most('the same / containerd', restart(us) / restart(them), 1),
  ];
  return verdicts.map(each => (each.atLeast ? { ...each, met: each.value >= each.target } : each));
}

const [begin, end] = ['<!-- figures: begin -->', '<!-- figures: end -->'];

/** Writes docs/performance.md's figures, its chart and performance.json; returns lines for the terminal. */
export function writeReport(figures: Figures, directory: string): string[] {
  const text = [
    `Measured by \`hack/bench/run\` on ${machine()}; ${figures.rounds} rounds, medians, (p95) in brackets, ms.`,
    '',
    ...targetTable(figures),
    '',
    '![medians of each call](images/performance.svg)',
    '',
    ...callTable(figures),
    '',
    ...rateTable(figures),
    '',
    ...crowdTable(figures),
  ];
  const page = join(directory, 'performance.md');
  mkdirSync(join(directory, 'images'), { recursive: true });
  const old = existsSync(page) ? readFileSync(page, 'utf8') : `${begin}\n${end}\n`;
  const [head = ''] = old.split(begin);
  const tail = old.split(end).at(-1) ?? '';
  writeFileSync(page, `${head}${begin}\n${text.join('\n')}\n${end}${tail}`);
  writeFileSync(join(directory, 'images', 'performance.svg'), chart(figures));
  const json = join(directory, 'performance.json');
  const before = lastRun(json);
  writeFileSync(
    json,
    `${JSON.stringify({ machine: machine(), targets: judge(figures), ...rounded(figures) })}\n`,
  );
  return [...text, '', ...before];
}

function machine(): string {
  const [cpu] = cpus();
  return `${cpus().length} CPUs (${cpu?.model.trim()}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, node ${process.version}`;
}

const ms = (value: number) => (value < 10 ? value.toFixed(1) : value.toFixed(0));
const cell = (values: readonly number[] | undefined) =>
  values?.length ? `${ms(median(values))} (${ms(quantile(values, 0.95))})` : '';
const times = (value: number) => (Number.isFinite(value) ? value.toFixed(2) : '');

function table(head: string[], rows: string[][]): string[] {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, index) => (index === 0 ? '---' : '---:'))), ...rows.map(line)];
}

function targetTable(figures: Figures): string[] {
  const rows = judge(figures).map(({ figure, value, target, atLeast, met }) => [
    figure,
    times(value),
    `${atLeast ? 'at least' : 'at most'} ${target}`,
    met ? 'met' : '**missed**',
  ]);
  return table(['figure', 'here', 'target', ''], rows);
}

function callTable({ calls: measured }: Figures): string[] {
  const names = [us, crun, them, floor];
  const rows = [...calls, 'up' as const].map(call => {
    const values = measured[call];
    const own = median(values[us] ?? []);
    return [
      call === 'up' ? 'RunPodSandbox + CreateContainer + StartContainer' : call,
      ...names.map(name => cell(values[name])),
      times(own / median(values[them] ?? [])),
      times(own / median(values[floor] ?? [])),
    ];
  });
  return table(['call, ms', ...names, `${us} / ${them}`, `${us} / ${floor}`], rows);
}

function rateTable({ rates, eventLoopMs, logMbPerSecond }: Figures): string[] {
  const row = (what: string, values: Values, digits: number) => [
    what,
    ...[us, them].map(name => median(values[name] ?? []).toFixed(digits)),
    times(median(values[us] ?? []) / median(values[them] ?? [])),
  ];
  const rows = Object.entries(rates).flatMap(([inFlight, { podsPerSecond, cpuSecondsPerLife }]) => [
    row(`pods a second, ${inFlight} in flight`, podsPerSecond, 1),
    row(`CPU seconds of a pod's life, ${inFlight} in flight`, cpuSecondsPerLife, 3),
  ]);
  rows.push(row('log of one container, MB a second', logMbPerSecond, 0));
  rows.push(['event loop delay after that, p99, ms', ms(eventLoopMs), '', '']);
  return table(['under load', us, them, 'ratio'], rows);
}

function crowdTable({ crowd }: Figures): string[] {
  const pair = [crowd[us], crowd[them]];
  const row = (what: string, value: (result: CrowdResult) => number, digits = 1) => {
    const both = pair.map(result => (result ? value(result) : Number.NaN));
    return [what, ...both.map(each => each.toFixed(digits)), times((both[0] ?? 0) / (both[1] ?? 0))];
  };
  const rows = (crowd[us]?.crowds ?? []).flatMap(({ pods, answers, idleCpu }, index) => [
    row(`memory at ${pods} pods, MB (Pss)`, result => result.crowds[index]?.memoryMb ?? Number.NaN, 0),
    ...Object.keys(answers).map(name =>
      row(`${name} at ${pods} pods, ms`, result => median(result.crowds[index]?.answers[name] ?? [])),
    ),
    ...(idleCpu
      ? [
          row(
            `idle CPU at ${pods} pods, polled, %`,
            result => result.crowds[index]?.idleCpu?.polled ?? Number.NaN,
          ),
          row(
            `idle CPU at ${pods} pods, alone, %`,
            result => result.crowds[index]?.idleCpu?.alone ?? Number.NaN,
          ),
        ]
      : []),
  ]);
  rows.push(row('up, the first thirty pods, ms', ({ starts }) => median(starts.slice(0, 30))));
  rows.push(row('up, the last thirty pods, ms', ({ starts }) => median(starts.slice(-30))));
  rows.push(row('the floor before any of these pods, ms', ({ floor: { alone } }) => median(alone)));
  rows.push(row('the floor beside all of these pods, ms', ({ floor: { amidAll } }) => median(amidAll)));
  rows.push(row('daemon start with all pods, ms', ({ restarts }) => median(restarts), 0));
  return table(['many pods', us, them, 'ratio'], rows);
}

function chart({ calls: measured }: Figures): string {
  const names = [floor, us, crun, them];
  const groups = (
    ['RunPodSandbox', 'CreateContainer', 'StartContainer', 'ExecSync', 'StopPodSandbox'] as const
  ).map(call => ({
    name: call,
    bars: names
      .filter(name => measured[call][name])
      .map(name => ({ name, value: median(measured[call][name] ?? []) })),
  }));
  return barChart('Median of each call, ms (less is better)', names, groups);
}

/** What changed since the run that the file holds. */
function lastRun(file: string): string[] {
  if (!existsSync(file)) return [];
  const { targets } = JSON.parse(readFileSync(file, 'utf8')) as { targets: Verdict[] };
  return ['the last run had:', ...targets.map(({ figure, value }) => `  ${figure}: ${value}`)];
}

/** Numbers as precise as they are true. */
function rounded<T>(value: T): T {
  return JSON.parse(
    JSON.stringify(value, (_, each) => (typeof each === 'number' ? Number(each.toPrecision(5)) : each)),
  );
}
