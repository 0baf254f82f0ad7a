// What is known about each key beyond its type: its meaning, or why it has no effect here. The notes
// hang on the schemas (keys.ts), so one declaration feeds checking, `config default` and the manual.
import { z } from 'zod';

export type KeyNote =
  | {
      readonly effect: 'honoured';
      readonly doc: string;
      /** A line of TOML for a table whose keys are names that users choose. */
      readonly example?: string;
    }
  | {
      readonly effect: 'none';
      /** Why, and what to use instead. */
      readonly why: string;
      /** Values that ask for nothing: containerd's own defaults (empty ones go without saying). */
      readonly harmless: readonly unknown[];
      /** containerd's identifier of the key's deprecation; ignore_deprecation_warnings silences it. */
      readonly deprecation?: string;
      readonly level: NoteLevel;
    };

/** How loudly a key without effect is reported: where its effect will be missed, as a warning. */
export type NoteLevel = 'silent' | 'info' | 'warn';

export const keyNotes = z.registry<KeyNote>();

/** A key with effect. `doc` is printed above it and in the manual. */
export function honoured<T extends z.ZodType>(schema: T, doc: string, example?: string): T {
  keyNotes.add(schema, { effect: 'honoured', doc, ...(example === undefined ? {} : { example }) });
  return schema;
}

/** A key that containerd knows and that changes nothing here; whatever it holds is accepted. */
export function unused(
  why: string,
  options: { harmless?: readonly unknown[]; deprecation?: string; level?: NoteLevel } = {},
) {
  const schema = z.unknown().optional();
  keyNotes.add(schema, { effect: 'none', why, harmless: [], level: 'info', ...options });
  return schema;
}

/** A table of the file. Absent, it is the table of its keys' defaults. */
export function section<S extends z.ZodRawShape>(shape: S) {
  const table = z.object(shape, { error: 'a table' });
  return table.prefault({} as z.input<typeof table>);
}
