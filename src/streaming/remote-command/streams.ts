// What exec and attach work with, whatever protocol carries it: the client's streams, its window sizes, and a way to
// say how it ended.
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';
import type { TerminalSize } from '../../host/pty.ts';
import type { Outcome } from '../outcome.ts';

/** Which streams the request asks for, as ExecRequest and AttachRequest say it. */
export interface StreamChoice {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** One terminal: output on stdout alone, and the client may resize it. */
  readonly tty: boolean;
}

export interface RemoteStreams {
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  /** Sizes of the client's window, as they change; ends with the client. */
  readonly sizes: AsyncIterable<TerminalSize>;
  /** Aborts when the client has gone, or was idle for too long. */
  readonly signal: AbortSignal;
  /** Ends the output, tells the outcome and closes the connection. */
  finish(outcome: Outcome): Promise<void>;
}

/** How long a client may take to close its end of a finished connection, in milliseconds. */
export const closingGraceMs = 10_000;

const sizeSchema = z.object({
  Width: z.number().int().min(1).max(65535),
  Height: z.number().int().min(1).max(65535),
});
const maxSizeText = 4096;

/**
 * Sizes out of the resize channel's text: one JSON object after the other, in any chunks. Between two looks only the
 * last matters, and what is not a size is passed over: a terminal of the wrong size is still a terminal.
 */
export async function* terminalSizes(text: Readable): AsyncGenerator<TerminalSize> {
  let held = '';
  try {
    for await (const chunk of text.iterator({ destroyOnReturn: false })) {
      held += String(chunk);
      const objects = held.match(/\{[^{}]*\}/g);
      held = held.slice(held.lastIndexOf('}') + 1).slice(-maxSizeText);
      const last = objects?.at(-1);
      const size = last === undefined ? undefined : readSize(last);
      if (size) yield size;
    }
  } catch {
    // the client has gone; whoever serves it is told by the other streams
  }
}

function readSize(json: string): TerminalSize | undefined {
  try {
    const size = sizeSchema.safeParse(JSON.parse(json)).data;
    return size && { width: size.Width, height: size.Height };
  } catch {
    return undefined;
  }
}

/** The sizes of a client that cannot resize. */
export async function* noSizes(): AsyncGenerator<TerminalSize> {}
