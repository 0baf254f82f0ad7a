// TOML tables as plain trees, and the path of a key in them.
import { z } from 'zod';

export type KeyPath = readonly string[];
export type Table = { [key: string]: unknown };

export function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** The path as one would write it in TOML: `plugins."io.containerd.grpc.v1.cri".cni.bin_dir`. */
export function formatPath(path: KeyPath): string {
  return path.map(formatKey).join('.');
}

export function formatKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key);
}

/** Sets `value` at `path`, making tables on the way (and replacing what stands where a table must be). */
export function setAt(tree: Table, path: KeyPath, value: unknown): void {
  const [head, ...rest] = path;
  if (head === undefined) return;
  if (rest.length === 0) {
    define(tree, head, value);
    return;
  }
  const below = ownValue(tree, head);
  const table = isTable(below) ? below : {};
  if (table !== below) define(tree, head, table);
  setAt(table, rest, value);
}

export function getAt(tree: unknown, path: KeyPath): unknown {
  let at = tree;
  for (const key of path) {
    if (!isTable(at)) return undefined;
    at = ownValue(at, key);
  }
  return at;
}

/** A table's own value; never what an object inherits ("constructor" is a legal TOML key). */
export function ownValue(table: Table, key: string): unknown {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

// Plain assignment would treat the key "__proto__" as the object's prototype.
function define(table: Table, key: string, value: unknown): void {
  Object.defineProperty(table, key, { value, enumerable: true, configurable: true, writable: true });
}

/** Everything in a tree that is not a table with content, with its path. */
export function* leaves(value: unknown, path: KeyPath = []): Generator<{ path: KeyPath; value: unknown }> {
  if (isTable(value) && Object.keys(value).length > 0) {
    for (const [key, below] of Object.entries(value)) yield* leaves(below, [...path, key]);
  } else if (path.length > 0) {
    yield { path, value };
  }
}

/** What a schema says about a table: its named keys, or that any key is a name chosen by the user. */
export type TableSchema =
  | { readonly kind: 'keys'; readonly shape: Readonly<Record<string, z.ZodType>> }
  | { readonly kind: 'names'; readonly value: z.ZodType }
  | { readonly kind: 'value' };

/** Looks through the wrappers for defaults and preprocessing. */
export function tableSchema(schema: z.ZodType): TableSchema {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional) {
    return tableSchemaOf(schema.unwrap());
  }
  if (schema instanceof z.ZodPipe) return tableSchemaOf(schema.out);
  if (schema instanceof z.ZodObject)
    return { kind: 'keys', shape: schema.shape as Record<string, z.ZodType> };
  if (schema instanceof z.ZodRecord && schema.valueType instanceof z.ZodType) {
    return { kind: 'names', value: schema.valueType };
  }
  return { kind: 'value' };
}

function tableSchemaOf(inner: unknown): TableSchema {
  return inner instanceof z.ZodType ? tableSchema(inner) : { kind: 'value' };
}
