// Compares the keys of a file with the keys that are known: unknown ones get a suggestion, and known
// ones without effect a note when the user asked for more than nothing.
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { configFile } from './keys.ts';
import { keysOfVersion2, type Origin, placeInVersion2, placeInVersion3 } from './layouts.ts';
import { keyNotes } from './notes.ts';
import { formatPath, isTable, type KeyPath, type Table, tableSchema } from './tree.ts';

export interface KeyRemark {
  /** Canonical path. */
  readonly path: KeyPath;
  readonly message: string;
  readonly level: 'info' | 'warn';
  /** containerd's identifier, when this is about a deprecated key. */
  readonly deprecation: string | undefined;
}

type OriginOf = (canonical: KeyPath) => Origin;

export function remarksOnKeys(tree: Table, originOf: OriginOf): KeyRemark[] {
  return [...remarks(configFile, tree, [], originOf)];
}

function* remarks(
  schema: z.ZodType,
  value: unknown,
  path: KeyPath,
  originOf: OriginOf,
): Generator<KeyRemark> {
  const note = keyNotes.get(schema);
  if (note?.effect === 'none') {
    if (
      note.level === 'silent' ||
      isNothing(value) ||
      note.harmless.some(usual => isDeepStrictEqual(usual, value))
    )
      return;
    yield { path, message: `has no effect: ${note.why}`, level: note.level, deprecation: note.deprecation };
    return;
  }
  const table = tableSchema(schema);
  if (table.kind === 'value' || !isTable(value)) return; // wrong types are the schema's to refuse
  for (const [key, below] of Object.entries(value)) {
    const known = table.kind === 'names' ? table.value : ownSchema(table.shape, key);
    if (known === undefined) yield unknownKey([...path, key], originOf);
    else yield* remarks(known, below, [...path, key], originOf);
  }
}

function ownSchema(shape: Readonly<Record<string, z.ZodType>>, key: string): z.ZodType | undefined {
  return Object.hasOwn(shape, key) ? shape[key] : undefined;
}

/** Empty by Go's reckoning, however deep: "", 0, false, [], {}. */
function isNothing(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (isTable(value)) return Object.values(value).every(isNothing);
  return value === '' || value === 0 || value === false;
}

function unknownKey(path: KeyPath, originOf: OriginOf): KeyRemark {
  const origin = originOf(path);
  const suggestion = suggest(origin.path, origin.version);
  const hint = suggestion === undefined ? '' : `; did you mean ${formatPath(suggestion)}?`;
  return { path, message: `unknown key, ignored${hint}`, level: 'warn', deprecation: undefined };
}

/** For an unknown key as the user wrote it: the likeliest known one, in the layout of the user's file. */
function suggest(path: KeyPath, version: number): KeyPath | undefined {
  const moved = version >= 3 ? placeInVersion3(path) : undefined;
  const declared =
    version < 3
      ? [...declaredPaths(configFile, []).map(placeInVersion2), ...keysOfVersion2]
      : declaredPaths(configFile, []);
  if (moved !== undefined && declared.some(known => matches(known.slice(0, moved.length), moved)))
    return moved;
  const parent = path.slice(0, -1);
  const siblings = declared
    .filter(known => known.length >= path.length && matches(known.slice(0, parent.length), parent))
    .map(known => known[parent.length] ?? '');
  const key = path.at(-1) ?? '';
  const close = closest(key, siblings);
  if (close !== undefined) return [...parent, close];
  // the right key in the wrong table: only when one table alone has it
  const elsewhere = declared.filter(known => known.at(-1) === key);
  return elsewhere.length === 1 ? elsewhere[0] : undefined;
}

/** Stands in declared paths for names that users choose, such as a runtime handler's. */
const anyName = 'NAME';

function matches(declared: KeyPath, path: KeyPath): boolean {
  return (
    declared.length === path.length && declared.every((key, index) => key === anyName || key === path[index])
  );
}

function declaredPaths(schema: z.ZodType, path: KeyPath): KeyPath[] {
  const table = tableSchema(schema);
  if (table.kind === 'value') return [path];
  if (table.kind === 'names') return declaredPaths(table.value, [...path, anyName]);
  return Object.entries(table.shape).flatMap(([key, below]) => declaredPaths(below, [...path, key]));
}

function closest(key: string, candidates: readonly string[]): string | undefined {
  const tolerated = Math.max(1, Math.floor(key.length / 3));
  const ranked = candidates
    .map(candidate => ({ candidate, distance: editDistance(key.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ distance }) => distance <= tolerated)
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
