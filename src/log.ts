// The daemon's structured log: one line an event, JSON or text, with the ids of the pod and container it is about.
import { writeSync } from 'node:fs';
import { type Logger as PinoLogger, pino } from 'pino';

export type Logger = PinoLogger;
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

export type LogFormat = 'json' | 'text';

/** A logger that writes to standard error. Credentials must never reach it: pass ids and names, not requests. */
export function createLogger(level: LogLevel, format: LogFormat = 'json'): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    toStandardError(format === 'json' ? line => line : textLine),
  );
}

/**
 * Writes lines at once. One for which there is no room (standard error may be a file on a full disk) is lost: what the
 * daemon does must not end with what it says.
 */
function toStandardError(format: (json: string) => string): { write(json: string): void } {
  let cutOff = false;
  return {
    write(json) {
      const bytes = Buffer.from(`${cutOff ? '\n' : ''}${format(json)}`);
      let done = 0;
      try {
        while (done < bytes.length) done += writeSync(2, bytes, done);
        cutOff = false;
      } catch {
        cutOff ||= done > 0;
      }
    },
  };
}

/** `time=... level=... msg="..." key=value`, what logfmt readers take and containerd writes, from a JSON line. */
export function textLine(json: string): string {
  const { time, level, msg, ...rest } = JSON.parse(json) as Record<string, unknown>;
  const words = Object.entries({ time, level, msg, ...rest })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${textValue(value)}`);
  return `${words.join(' ')}\n`;
}

function textValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /^[\w.:/@+-]+$/.test(text) ? text : JSON.stringify(text);
}

/** A logger that says nothing, for parts used alone. */
export const silentLogger = (): Logger => pino({ level: 'silent' });
