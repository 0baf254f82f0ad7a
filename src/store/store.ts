// Durable records: what the daemon must still know after it was killed. LMDB underneath (one writer thread,
// copy-on-write pages), so a kill at any instant leaves either the old or the new record, never half of one.
//
// What is promised: when `put` or `remove` resolves, the change survives the death of the process. A power cut
// may take the last changes (the commit is flushed to disk right after it became visible), but leaves a
// consistent older state; processes, mounts and namespaces do not survive a power cut either.
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { ZodError, type z } from 'zod';
import { CriError, messageOf } from '../errors.ts';
import { inspectDataFile, type SavedRecord } from './data-file.ts';

/** Version of what the records mean. A store of another format is refused, never guessed at. */
export const storeFormat = 1;

/** A record that could not be read: kept where it is, reported, and left out of `entries`. */
export interface DamagedRecord {
  collection: string;
  key: string;
  reason: string;
}

/** One kind of record, keyed by a string. Reads come from memory-mapped pages and are synchronous. */
export interface Collection<T> {
  get(key: string): T | undefined;
  /** Every readable record; an unreadable one is passed to the store's `onDamaged`. */
  entries(): [string, T][];
  /** Keys of all records, also of those that cannot be read. */
  keys(): string[];
  /** @throws CriError resourceExhausted when the disk is full: nothing has changed then, and it can be repeated */
  put(key: string, value: T): Promise<void>;
  /** As put: a full disk hinders a removal too, since pages are copied before they are changed. */
  remove(key: string): Promise<void>;
}

export interface Store {
  collection<T>(name: string, schema: z.ZodType<T>): Collection<T>;
  /** Resolves when everything committed so far is on disk. */
  flushed(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens the store in `directory`, making it when it is new. One that is damaged is set aside, and what of it can be read is
 * put into a new one; `onDamaged` is told.
 * @throws CriError storeDamaged: it was written by another format of cri-ts, or cannot be opened.
 */
export function openStore(directory: string, onDamaged: (record: DamagedRecord) => void): Store {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const saved = setDamagedAside(directory, onDamaged);
  const root = openRoot(directory);
  for (const { collection, key, text } of saved) {
    root.openDB({ name: collection, encoding: 'string' }).putSync(key, text);
  }
  requireFormat(root.get('format'), directory);
  return {
    // Text, and not lmdb's own JSON, which would let one damaged record hide all others.
    collection: (name, schema) =>
      openCollection(root.openDB({ name, encoding: 'string' }), name, schema, onDamaged),
    flushed: async () => {
      await root.flushed;
    },
    close: () => root.close(),
  };
}

/**
 * Looks for damage of the data file itself, which would crash the process that maps it. A damaged store is set aside under
 * another name, for whoever wants to look at it; returns the records that could still be read, for a new one.
 * @throws CriError storeDamaged for a store of another format, which stays as it is
 */
function setDamagedAside(directory: string, onDamaged: (record: DamagedRecord) => void): SavedRecord[] {
  const file = join(directory, 'data.mdb');
  if (!existsSync(file)) return [];
  const { format, problems, saved } = inspectDataFile(file);
  if (problems.length === 0) return [];
  // What another version of cri-ts has written may look damaged to this one, and is not this one's to mend.
  if (format !== undefined && /^[1-9]\d*$/.test(format)) requireFormat(Number(format), directory);
  let aside = '';
  for (let n = 1; aside === '' || existsSync(aside); n++) aside = `${directory}.damaged-${n}`;
  renameSync(directory, aside);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const reason = `the store was damaged and is set aside in ${aside}; ${saved.length} records were saved: ${problems.join('; ')}`;
  onDamaged({ collection: 'store', key: directory, reason });
  return saved;
}

function openRoot(directory: string): RootDatabase {
  try {
    // Without batching by event turn, a failed commit (a full disk) rejects promises of ours alone; with it, one that
    // nobody can handle, which ends the process. The daemon's changes are single ones, and are no slower for it.
    const root = open({ path: directory, maxDbs: 16, encoding: 'json', eventTurnBatching: false });
    if (root.get('format') === undefined) {
      makeReserve(root);
      root.putSync('format', storeFormat);
    }
    return root;
  } catch (error) {
    throw new CriError('storeDamaged', `store ${directory} cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Bytes that a new store takes from the disk at once: enough for the records of some hundred pods. */
const reserveBytes = 8 * 1024 * 1024;

/**
 * Makes the file large and its pages free, so that records are written over pages that the disk has already given: a
 * disk that fills up later stops pods from being made, but not the daemon from writing down how those it has end.
 */
function makeReserve(root: RootDatabase): void {
  root.putSync('reserve', '0'.repeat(reserveBytes));
  root.removeSync('reserve');
}

function requireFormat(found: unknown, directory: string): void {
  if (found === storeFormat) return;
  throw new CriError(
    'storeDamaged',
    `store ${directory} has format ${JSON.stringify(found)}, this cri-ts reads format ${storeFormat}: ` +
      'start the version of cri-ts that wrote it, or point --root at another directory',
  );
}

function openCollection<T>(
  database: Database<string, string>,
  name: string,
  schema: z.ZodType<T>,
  onDamaged: (record: DamagedRecord) => void,
): Collection<T> {
  const read = (key: string, text: string): T | undefined => {
    try {
      return schema.parse(JSON.parse(text));
    } catch (error) {
      onDamaged({ collection: name, key, reason: reasonOf(error) });
      return undefined;
    }
  };
  return {
    get(key) {
      const text = database.get(key);
      return text === undefined ? undefined : read(key, text);
    },
    entries() {
      const found: [string, T][] = [];
      for (const { key, value } of database.getRange()) {
        const record = read(key, value);
        if (record !== undefined) found.push([key, record]);
      }
      return found;
    },
    keys: () => [...database.getKeys()],
    put: (key, value) => committed(database.put(key, JSON.stringify(value)), `writing ${name} record ${key}`),
    remove: key => committed(database.remove(key), `removing ${name} record ${key}`),
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof ZodError)) return messageOf(error);
  return error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');
}

/** Waits for a change to be committed; a failure says of what, and why. */
async function committed(change: Promise<boolean>, what: string): Promise<void> {
  try {
    await change;
  } catch (thrown) {
    // lmdb keeps the reason in a promise of its own, already rejected.
    const reason = await Promise.resolve((thrown as { commitError?: unknown }).commitError).catch(
      (error: unknown) => error,
    );
    const full = (reason as { code?: unknown } | undefined)?.code === constants.errno.ENOSPC;
    throw new CriError(
      full ? 'resourceExhausted' : 'storeDamaged',
      `${what} of the store failed: ${messageOf(reason ?? thrown)}${full ? ': make room on the file system of root' : ''}`,
      { cause: reason ?? thrown },
    );
  }
}
