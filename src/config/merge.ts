// Lays one file's keys over those read before it, as containerd merges imported files.
import type { CanonicalTree, Origins } from './layouts.ts';
import { getAt, isTable, type KeyPath, leaves, setAt, type Table } from './tree.ts';

/**
 * Inside [plugins] a later value always replaces an earlier one. Outside, an empty later value
 * ("", 0, false) changes nothing, and lists grow by what they do not hold yet.
 */
export function mergeInto(target: { tree: Table; origins: Origins }, later: CanonicalTree): void {
  for (const { path, value } of leaves(later.tree)) {
    if (isTable(value) && getAt(target.tree, path) !== undefined) continue; // an empty table adds nothing
    const merged = path[0] === 'plugins' ? value : mergeOutsidePlugins(getAt(target.tree, path), value);
    setAt(target.tree, path, merged);
    if (merged === value) copyOrigin(target.origins, later.origins, path);
  }
}

function mergeOutsidePlugins(earlier: unknown, later: unknown): unknown {
  if (earlier === undefined) return later;
  if (Array.isArray(earlier) && Array.isArray(later)) {
    const added = later.filter(item => !earlier.includes(item));
    return added.length === 0 ? earlier : [...earlier, ...added];
  }
  return later === '' || later === 0 || later === false ? earlier : later;
}

function copyOrigin(target: Origins, source: Origins, path: KeyPath): void {
  const origin = source.exact(path);
  if (origin !== undefined) target.add(path, origin);
}
