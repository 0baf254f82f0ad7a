// Signals by name and number, as images, the CRI and the kernel have them (signal(7), x86 and arm numbering).
import { constants } from 'node:os';
import type { Signal } from '../cri-api/types.ts';
import { CriError } from '../errors.ts';

const rtMin = 34; // what glibc leaves of the kernel's 32
const rtMax = 64;
export const sigterm = 15;

/** Number of a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, or the CRI's `SIGRTMINPLUS3`. undefined when there is none. */
export function signalNumber(name: string): number | undefined {
  if (/^\d+$/.test(name)) return inRange(Number(name));
  const upper = name.toUpperCase();
  const full = upper.startsWith('SIG') ? upper : `SIG${upper}`;
  const realTime = /^SIGRT(MIN|MAX)(?:(?:\+|PLUS|-|MINUS)(\d+))?$/.exec(full);
  if (realTime) {
    const offset = Number(realTime[2] ?? 0);
    return inRange(realTime[1] === 'MIN' ? rtMin + offset : rtMax - offset);
  }
  if (full === 'SIGCLD') return constants.signals.SIGCHLD;
  return constants.signals[full as keyof typeof constants.signals];
}

function inRange(number: number): number | undefined {
  return number >= 1 && number <= rtMax ? number : undefined;
}

/** The CRI's name of a signal number. */
export function signalName(number: number): Signal {
  if (number >= rtMin && number <= 49) return named('SIGRTMIN', 'PLUS', number - rtMin);
  if (number >= 50 && number <= rtMax) return named('SIGRTMAX', 'MINUS', rtMax - number);
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return (found?.[0] ?? 'RUNTIME_DEFAULT') as Signal;
}

function named(base: string, sign: string, offset: number): Signal {
  return (offset === 0 ? base : `${base}${sign}${offset}`) as Signal;
}

/** The stop signal: what the pod asks for, else what the image asks for, else SIGTERM. */
export function stopSignalOf(requested: Signal, imageStopSignal: string | undefined): number {
  if (requested !== 'RUNTIME_DEFAULT') {
    const number = signalNumber(requested);
    if (number === undefined)
      throw new CriError('invalidArgument', `stop_signal ${requested} is no signal of Linux`);
    return number;
  }
  return (imageStopSignal ? signalNumber(imageStopSignal) : undefined) ?? sigterm;
}
