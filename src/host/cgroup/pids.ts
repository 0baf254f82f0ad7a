// The pids controller, whose files v1 and v2 have alike.
import { type ReadText, readNumber } from './files.ts';

export function readTaskCount(directory: string, read: ReadText): number | undefined {
  return readNumber(`${directory}/pids.current`, read);
}

/** undefined = no limit. */
export function readTaskLimit(directory: string): number | undefined {
  return readNumber(`${directory}/pids.max`);
}
