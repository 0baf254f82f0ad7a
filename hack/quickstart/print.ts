// How the walk is shown: headings, commands with what they print, checks, and an operation's steps against time.
import { execa } from 'execa';
import type { Span } from './daemon.ts';

export function say(...lines: string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

export function heading(text: string): void {
  say('', `== ${text}`);
}

/** Runs a command and shows it with its output, or with those lines of it that `keep` lets pass. */
export async function show(command: string, keep: (line: string) => boolean = () => true): Promise<string> {
  const [file = '', ...args] = command.split(' ');
  const { all, exitCode } = await execa(file, args, { all: true, reject: false });
  const lines = all.split('\n').filter(line => line.trim() !== '' && keep(line));
  say('', `$ ${command}`, ...lines.map(line => `  ${line.trimEnd()}`));
  if (exitCode !== 0 && lines.length === 0) say(`  (exit code ${exitCode})`);
  return lines.join('\n');
}

/** Shows that something holds. @throws when it does not, with what was found instead */
export function check(sentence: string, found: string, holds: boolean): void {
  if (!holds) throw new Error(`${sentence}: this did not come true; found ${JSON.stringify(found.trim())}`);
  say(`  ok: ${sentence}: ${found.trim()}`);
}

const barWidth = 28;

/**
 * Shows when each step ran and for how long: what stands beside each other ran at the same time.
 * @param nameOf what a step's pod or container is called; told where steps of several are shown
 */
export function showSteps(
  title: string,
  totalMs: number,
  spans: readonly Span[],
  nameOf: (id: string) => string,
): void {
  say('', `${title}: ${totalMs.toFixed(1)} ms`);
  const start = Math.min(...spans.map(({ began }) => began));
  const end = Math.max(...spans.map(({ began, ms }) => began + ms), start + 1);
  const column = (time: number) => Math.floor(((time - start) / (end - start)) * barWidth);
  const hasSeveral = new Set(spans.map(({ subject }) => subject).filter(Boolean)).size > 1;
  for (const { name, subject, began, ms } of spans) {
    const from = Math.min(column(began), barWidth - 1);
    const bar = `${' '.repeat(from)}${'#'.repeat(Math.max(1, column(began + ms) - from))}`;
    const whose = hasSeveral ? `  [${nameOf(subject)}]` : '';
    say(`  ${ms.toFixed(1).padStart(7)} ms |${bar.padEnd(barWidth)}| ${name}${whose}`);
  }
}
