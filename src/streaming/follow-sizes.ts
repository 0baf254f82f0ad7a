// The size of a client's window, as it changes, given to the terminal that it shows.
import { messageOf } from '../errors.ts';
import type { TerminalSize } from '../host/pty.ts';
import type { Logger } from '../log.ts';

export interface SizesToFollow {
  readonly sizes: AsyncIterable<TerminalSize>;
  /** Gives the terminal its size. @throws when that cannot be done now, for want of descriptors say */
  set(size: TerminalSize): void;
  readonly containerId: string;
  readonly log: Logger;
}

/**
 * Resolves with the last size; never rejects. A size that cannot be set is told in the log, and the next is tried: a
 * terminal of the wrong size is still a terminal.
 */
export async function followSizes({ sizes, set, containerId, log }: SizesToFollow): Promise<void> {
  const warn = (error: unknown) =>
    log.warn({ container: containerId, error: messageOf(error) }, 'a terminal could not be resized');
  try {
    for await (const size of sizes) {
      try {
        set(size);
      } catch (error) {
        warn(error);
      }
    }
  } catch (error) {
    warn(error);
  }
}
