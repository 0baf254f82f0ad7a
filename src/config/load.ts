// Loading the configuration, the whole way: files and imports -> canonical layout -> flags -> schema ->
// Config. Everything wrong is reported at once, in the words of the user's own files.
import type { z } from 'zod';
import { deriveConfig } from './effective.ts';
import { ConfigError, type ConfigProblem, type ConfigWarning } from './errors.ts';
import { readWithImports } from './files.ts';
import { canonicalVersion } from './keys/daemon.ts';
import { type ConfigFile, configFile, criPlugin, runtimePlugin } from './keys.ts';
import { remarksOnKeys } from './known.ts';
import { type Origin, Origins, toCanonical } from './layouts.ts';
import { mergeInto } from './merge.ts';
import { checkNamedFiles } from './named-files.ts';
import type { Findings } from './runtimes.ts';
import { formatPath, getAt, isTable, type KeyPath, setAt, type Table } from './tree.ts';
import type { Config } from './types.ts';

/** Command-line flags that override the file. */
export interface ConfigFlags {
  readonly address?: string | undefined;
  readonly root?: string | undefined;
  readonly state?: string | undefined;
  readonly cniConfDir?: string | undefined;
  readonly cniBinDir?: readonly string[] | undefined;
  readonly logLevel?: string | undefined;
}

export interface LoadedConfig {
  readonly config: Config;
  readonly warnings: readonly ConfigWarning[];
  /** The checked file with every default filled in, in the canonical layout (for `config dump`). */
  readonly file: ConfigFile;
}

/**
 * Loads the configuration. Without `file`, the embedded defaults (and the flags). Throws ConfigError with
 * every problem found: an unreadable file, invalid TOML, a wrong value (with its path, the value and what
 * is allowed). Unknown keys and keys without effect are warnings.
 */
export function loadConfig(
  options: { file?: string | undefined; flags?: ConfigFlags | undefined } = {},
): LoadedConfig {
  const merged = { tree: {} as Table, origins: new Origins() };
  const problems: ConfigProblem[] = [];
  for (const { file, version, table } of options.file === undefined ? [] : readWithImports(options.file)) {
    const canonical = toCanonical(file, version, table);
    mergeInto(merged, canonical);
    for (const { path, message } of canonical.conflicts) {
      problems.push({ path: `${file}: ${formatPath(path)}`, message });
    }
  }
  applyFlags(merged, options.flags ?? {});
  const originOf = (path: KeyPath): Origin =>
    merged.origins.find(path) ?? { file: '', version: canonicalVersion, path };
  const place = (path: KeyPath) => placeOf(originOf(path));

  const tree = withoutEmptyStrings(merged.tree);
  const checked = configFile.safeParse(tree);
  if (!checked.success) {
    problems.push(...checked.error.issues.map(issue => schemaProblem(issue, tree, place)));
    throw new ConfigError(problems);
  }

  const warnings: ConfigWarning[] = [];
  const found: Findings = {
    error: (path, message) => problems.push({ path: place(path), message }),
    note: (level, path, message) => warnings.push({ path: place(path), message, level }),
  };
  const silenced = checked.data.plugins[runtimePlugin].ignore_deprecation_warnings;
  for (const remark of remarksOnKeys(merged.tree, originOf)) {
    if (remark.deprecation !== undefined && silenced.includes(remark.deprecation)) continue;
    found.note(remark.level, remark.path, remark.message);
  }
  const config = deriveConfig(checked.data, found);
  checkNamedFiles(config, found);
  if (problems.length > 0) throw new ConfigError(problems);
  // what has been read stands in the canonical layout and has its imports in it
  return { config, warnings, file: { ...checked.data, version: canonicalVersion, imports: [] } };
}

const flagKeys: Readonly<Record<keyof ConfigFlags, { flag: string; path: KeyPath }>> = {
  address: { flag: '--address', path: ['grpc', 'address'] },
  root: { flag: '--root', path: ['root'] },
  state: { flag: '--state', path: ['state'] },
  cniConfDir: { flag: '--cni-conf-dir', path: ['plugins', runtimePlugin, 'cni', 'conf_dir'] },
  cniBinDir: { flag: '--cni-bin-dir', path: ['plugins', runtimePlugin, 'cni', 'bin_dirs'] },
  logLevel: { flag: '--log-level', path: ['debug', 'level'] },
};

function applyFlags({ tree, origins }: { tree: Table; origins: Origins }, flags: ConfigFlags): void {
  for (const [name, { flag, path }] of Object.entries(flagKeys)) {
    const value = flags[name as keyof ConfigFlags];
    if (value === undefined) continue;
    setAt(tree, path, typeof value === 'string' ? value : [...value]);
    origins.add(path, { file: '', version: canonicalVersion, path: [flag] });
  }
}

function placeOf({ file, path }: Origin): string {
  return file === '' ? formatPath(path) : `${file}: ${formatPath(path)}`;
}

/** In Go an empty string is an absent key. One key means something by it: "" = the node's own address. */
const meaningfulWhenEmpty = formatPath(['plugins', criPlugin, 'stream_server_address']);

function withoutEmptyStrings(table: Table, path: KeyPath = []): Table {
  const kept: Table = {};
  for (const [key, value] of Object.entries(table)) {
    const here = [...path, key];
    if (value === '' && formatPath(here) !== meaningfulWhenEmpty) continue;
    setAt(kept, [key], isTable(value) ? withoutEmptyStrings(value, here) : value);
  }
  return kept;
}

function schemaProblem(
  issue: z.core.$ZodIssue,
  tree: Table,
  place: (path: KeyPath) => string,
): ConfigProblem {
  // an element of a list is reported as the list's: TOML has no name for it
  const index = issue.path.findIndex(part => typeof part === 'number');
  const path = (index < 0 ? issue.path : issue.path.slice(0, index)).map(String);
  const value = index < 0 ? getAt(tree, path) : elementAt(getAt(tree, path), issue.path[index]);
  return { path: place(path), message: `${printValue(value)} is not allowed; allowed: ${issue.message}` };
}

function elementAt(list: unknown, index: PropertyKey | undefined): unknown {
  return Array.isArray(list) && typeof index === 'number' ? list[index] : list;
}

function printValue(value: unknown): string {
  if (isTable(value)) return 'a table';
  const text = typeof value === 'object' && value instanceof Date ? value.toString() : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
