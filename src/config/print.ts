// Writes the configuration as TOML: the commented default file, and the effective configuration.
import { stringify } from 'smol-toml';
import type { z } from 'zod';
import { type ConfigFile, configFile, defaultFile } from './keys.ts';
import { keyNotes } from './notes.ts';
import { formatKey, formatPath, getAt, isTable, type KeyPath, tableSchema } from './tree.ts';

const preamble = `# Configuration of cri-ts, in the shape of containerd's (version 3). Files of containerd's versions 2, 3
# and 4 work too. Every key is optional; what stands here are the defaults.
`;

/** A TOML file with every honoured key, its meaning as a comment, and its default as its value. */
export function printDefaultFile(): string {
  return preamble + printTable(configFile, defaultFile(), [], { comments: true }).join('\n').concat('\n');
}

/** The effective configuration. Loading what this prints gives the same configuration. */
export function printConfigFile(file: ConfigFile): string {
  return printTable(configFile, file, [], { comments: false }).join('\n').concat('\n');
}

interface Style {
  readonly comments: boolean;
}

/** Lines of one table: its own keys first, then the tables below it, as TOML wants them. */
function printTable(schema: z.ZodType, value: unknown, path: KeyPath, style: Style): string[] {
  const keys: string[] = [];
  const tables: string[] = [];
  for (const { key, schema: below } of keysOf(schema, value)) {
    const held = getAt(value, [key]);
    if (tableSchema(below).kind !== 'value') {
      tables.push(...printTable(below, held, [...path, key], style));
      continue;
    }
    const note = keyNotes.get(below);
    if (note?.effect === 'none') continue;
    if (style.comments && note !== undefined) keys.push(`# ${note.doc}`);
    keys.push(`${formatKey(key)} = ${printValue(held)}`);
  }
  const own = [...printNote(schema, style), ...keys];
  if (own.length === 0 || path.length === 0) return [...own, ...tables];
  return ['', `[${formatPath(path)}]`, ...own.map(line => (style.comments ? `  ${line}` : line)), ...tables];
}

/** What the file says about a table whose keys are names that users choose. */
function printNote(schema: z.ZodType, style: Style): string[] {
  const note = keyNotes.get(schema);
  if (!style.comments || note?.effect !== 'honoured') return [];
  return [`# ${note.doc}`, ...(note.example === undefined ? [] : [`# ${note.example}`])];
}

function keysOf(schema: z.ZodType, value: unknown): { key: string; schema: z.ZodType }[] {
  const table = tableSchema(schema);
  if (table.kind === 'keys')
    return Object.entries(table.shape).map(([key, below]) => ({ key, schema: below }));
  if (table.kind === 'names' && isTable(value)) {
    return Object.keys(value).map(key => ({ key, schema: table.value }));
  }
  return [];
}

function printValue(value: unknown): string {
  return stringify({ value })
    .replace(/^value = /, '')
    .trimEnd();
}

/** One known key, for the manual. */
export interface KeyRow {
  readonly path: KeyPath;
  readonly effect: 'honoured' | 'none';
  /** TOML of the default; undefined for keys without effect and for tables of names. */
  readonly default: string | undefined;
  /** What it means, or why it has no effect. */
  readonly text: string;
}

/** Every known key in the order of the file; NAME stands for names that users choose. */
export function keyRows(): KeyRow[] {
  return rows(configFile, defaultFile(), []);
}

function rows(schema: z.ZodType, value: unknown, path: KeyPath): KeyRow[] {
  const table = tableSchema(schema);
  const note = keyNotes.get(schema);
  const own: KeyRow[] = [];
  if (note !== undefined) {
    const isLeaf = table.kind === 'value' && note.effect === 'honoured';
    own.push({
      path,
      effect: note.effect,
      default: isLeaf ? printValue(value) : undefined,
      text: note.effect === 'honoured' ? note.doc : note.why,
    });
  }
  if (table.kind === 'value') return own;
  if (table.kind === 'names') {
    // runtimes always hold `runc`, whose defaults are those of every other
    return [...own, ...rows(table.value, getAt(value, ['runc']), [...path, 'NAME'])];
  }
  const below = Object.entries(table.shape).map(([key, schema]) =>
    rows(schema, getAt(value, [key]), [...path, key]),
  );
  return [...own, ...below.flat()];
}
