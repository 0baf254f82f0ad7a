// What was made, and how it is taken away again: in reverse order, each attempt made whatever became of the others.
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../../src/errors.ts';

export interface Cleanup {
  /** Says how to take away what is about to be made. The function must not mind if it was not made after all. */
  owe(what: string, undo: () => Promise<unknown> | unknown): void;
  /** Makes a directory and those above it; owes the removal of the ones that are new, if they are empty by then. */
  directory(path: string): void;
  /** Takes everything away; returns a sentence for each thing that could not be. May be called again. */
  run(): Promise<string[]>;
}

export function createCleanup(): Cleanup {
  const owed: { what: string; undo: () => Promise<unknown> | unknown }[] = [];
  return {
    owe: (what, undo) => owed.push({ what, undo }),
    directory(path) {
      const first = mkdirSync(path, { recursive: true });
      if (first === undefined) return;
      owed.push({ what: `directory ${path}`, undo: () => removeEmpty(path, first) });
    },
    async run() {
      const failures: string[] = [];
      for (let last = owed.pop(); last; last = owed.pop()) {
        const { what, undo } = last;
        try {
          await undo();
        } catch (error) {
          failures.push(`${what} could not be taken away: ${messageOf(error)}`);
        }
      }
      return failures;
    },
  };
}

/** Removes `path` and the directories above it up to `first`, as far as they are empty: others may use them by now. */
function removeEmpty(path: string, first: string): void {
  for (let current = path; current.startsWith(first); current = dirname(current)) {
    if (readdirSync(current).length > 0) return;
    rmdirSync(current);
  }
}
