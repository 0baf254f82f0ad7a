// Reads a configuration file and the files it imports, in the order in which containerd applies them:
// the file itself, then its imports, then theirs; what comes later goes before.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, normalize } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { messageOf } from '../errors.ts';
import { ConfigError } from './errors.ts';
import { newestVersion } from './keys/daemon.ts';
import type { Table } from './tree.ts';

export interface ParsedFile {
  readonly file: string;
  /** Layout of the file; 1 when it names none, as containerd has it. */
  readonly version: number;
  readonly table: Table;
}

/** Throws ConfigError for a file that cannot be read, is not TOML, or has a layout from the future. */
export function readWithImports(file: string): ParsedFile[] {
  const read: ParsedFile[] = [];
  const pending = [file];
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    if (read.some(({ file: earlier }) => earlier === next)) continue;
    const parsed = readFile(next);
    read.push(parsed);
    pending.push(...importsOf(parsed));
  }
  return read;
}

function readFile(file: string): ParsedFile {
  const table = parseToml(file, readText(file));
  const version = table.version ?? 1;
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1 || version > newestVersion) {
    throw problem(
      `${file}: version`,
      `${JSON.stringify(version)} is not a layout known here; allowed: a whole number from 1 to ${newestVersion}`,
    );
  }
  return { file, version, table };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw problem(file, `the configuration file cannot be read: ${messageOf(error)}`);
  }
}

function parseToml(file: string, text: string): Table {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw problem(`${file}:${error.line}:${error.column}`, error.message.trimEnd());
  }
}

function importsOf({ file, table }: ParsedFile): string[] {
  const imports = table.imports;
  if (!Array.isArray(imports)) return [];
  return imports
    .filter(entry => typeof entry === 'string')
    .flatMap(entry => {
      const path = isAbsolute(entry) ? normalize(entry) : join(dirname(file), entry);
      return path.includes('*') ? glob(path) : [path];
    });
}

/** Existing files for an absolute pattern with `*`, `?` and `[...]` in any of its parts, sorted. */
function glob(pattern: string): string[] {
  let found = ['/'];
  for (const part of pattern.split('/').filter(part => part !== '')) {
    if (!/[*?[]/.test(part)) {
      found = found.map(directory => join(directory, part)).filter(exists);
      continue;
    }
    const matches = partPattern(part);
    found = found.flatMap(directory =>
      entries(directory)
        .filter(name => matches.test(name))
        .sort()
        .map(name => join(directory, name)),
    );
  }
  return found;
}

function partPattern(part: string): RegExp {
  const source = part.replace(/\*|\?|\[\^?[^\]]+\]|[.+^${}()|[\]\\]/g, token => {
    if (token === '*') return '.*';
    if (token === '?') return '.';
    return token.length > 1 ? token : `\\${token}`;
  });
  return new RegExp(`^${source}$`, 's');
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // not a directory, or not readable: nothing in it matches
  }
}

function problem(path: string, message: string): ConfigError {
  return new ConfigError([{ path, message }]);
}
