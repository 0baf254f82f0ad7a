// How a pod came up, as text: a timeline, then each step with the command that does the same by hand.
import { containerSteps, type ExplainedStep, podSteps } from './commands.ts';
import type { ExplainedPod } from './pod.ts';

const columns = 48;

export function explanation(pod: ExplainedPod): string {
  const parts = [
    {
      title: `pod ${pod.namespace}/${pod.name}  ${pod.id.slice(0, 13)}  ${pod.ips.join(' ')}`,
      steps: podSteps(pod),
    },
    ...pod.containers.map(container => ({
      title: `container ${container.name}  ${container.id.slice(0, 13)}${container.running ? '' : '  (not running)'}`,
      steps: containerSteps(pod, container),
    })),
  ];
  return parts
    .map(({ title, steps }) => [title, '', timeline(steps), '', list(steps)].join('\n'))
    .join('\n\n');
}

/** A bar a step on one scale. Steps that overlap ran at the same time. */
export function timeline(steps: readonly ExplainedStep[]): string {
  if (steps.length === 0) return '(no times are on record)';
  const start = Math.min(...steps.map(({ began }) => began));
  const end = Math.max(...steps.map(({ began, ms }) => began + ms));
  const perColumn = Math.max(end - start, 1) / columns;
  const width = Math.max(...steps.map(({ name }) => name.length));
  const rows = steps.map(({ name, began, ms }) => {
    const from = Math.min(columns - 1, Math.floor((began - start) / perColumn));
    const length = Math.max(1, Math.min(columns - from, Math.round(ms / perColumn)));
    const bar = ms < perColumn / 2 ? '|' : '#'.repeat(length);
    return `${name.padEnd(width)}  ${milliseconds(ms)}  ${' '.repeat(from)}${bar}`;
  });
  const total = `${'from first to last'.padEnd(width)}  ${milliseconds(end - start)}`;
  return [...rows, total].join('\n');
}

function list(steps: readonly ExplainedStep[]): string {
  return steps
    .map(({ name, note, commands }, i) =>
      [
        `${String(i + 1).padStart(2)}. ${name.trim()}: ${note}`,
        // A here-document must stay at the margin: nothing is indented that a person may want to copy.
        ...commands.map(command => (command.includes('\n') ? command : `    ${command}`)),
      ].join('\n'),
    )
    .join('\n');
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(1).padStart(7)} ms`;
}
