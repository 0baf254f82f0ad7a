// Durations as Go's time.ParseDuration writes them ("4h", "1m30s", "250ms"), which containerd's
// configuration uses throughout.

const millisecondsPerUnit: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  '\u00b5s': 1e-3, // micro sign
  '\u03bcs': 1e-3, // mu
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

const whole = /^([+-])?((?:\d+\.?\d*|\.\d+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+$/u;
const part = /(\d+\.?\d*|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/gu;

/** Milliseconds of a Go duration, or undefined when `text` is none. "0" needs no unit. */
export function parseDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  if (!whole.test(text)) return undefined;
  let sum = 0;
  for (const [, amount, unit] of text.matchAll(part)) {
    sum += Number(amount) * (millisecondsPerUnit[unit ?? ''] ?? Number.NaN);
  }
  return text.startsWith('-') ? -sum : sum;
}
