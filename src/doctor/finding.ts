// What a check reports, and what a check is.
import type { Config } from '../config/index.ts';
import type { HostView } from './host-view.ts';

/** `fail`: pods will not work. `warn`: some will not, or not as asked. `info`: good to know. */
export type Level = 'ok' | 'info' | 'warn' | 'fail';

export interface Finding {
  readonly level: Level;
  /** What was found: a sentence, with the figures. */
  readonly found: string;
  /** Why it matters. */
  readonly why: string;
  /** How to mend it: a command or the line of a file. Absent where nothing needs mending. */
  readonly mend?: string;
}

/** One subject of the report. A check only looks; it never changes the host. */
export interface Check {
  readonly name: string;
  run(host: HostView, config: Config): Finding[] | Promise<Finding[]>;
}

export const ok = (found: string, why: string): Finding => ({ level: 'ok', found, why });
export const info = (found: string, why: string, mend?: string): Finding => finding('info', found, why, mend);
export const warn = (found: string, why: string, mend: string): Finding => finding('warn', found, why, mend);
export const fail = (found: string, why: string, mend: string): Finding => finding('fail', found, why, mend);

function finding(level: Level, found: string, why: string, mend: string | undefined): Finding {
  return { level, found, why, ...(mend === undefined ? {} : { mend }) };
}
