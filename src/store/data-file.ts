// Reads LMDB's data file without LMDB: to find damage before LMDB maps the file, where a page that is missing or points
// astray would end the process, and to save the records that are still there. The layout is that of lmdb's liblmdb/mdb.c.
//
//     page 0, 1      meta pages: the root of the tree of named databases, as of the last commit and of the one before
//     other pages    24 bytes of header (page number, transaction, flags, bounds), then a branch, a leaf, or overflow
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** A record as the file holds it. */
export interface SavedRecord {
  collection: string;
  key: string;
  text: string;
}

export interface Inspection {
  /** The value of the record `format`, as text; undefined when it cannot be read. */
  format: string | undefined;
  /** What is wrong with the file, each problem a sentence; empty = nothing. */
  problems: string[];
  /** Every record that can be read, when there are problems; of the last commit, or else of the one before. */
  saved: SavedRecord[];
}

const magic = 0xbeefc0de;
const headerBytes = 24;
const treeBytes = 48; // MDB_db
const overflowBytes = 24; // MDB_ovpage
const metaBytes = 168;
const noPage = 0xffff_ffff_ffff_ffffn;
const pageFlags = { branch: 1, leaf: 2, overflow: 4, meta: 8 } as const;
const nodeFlags = { overflow: 1, tree: 2 } as const;
const maxDepth = 32; // CURSOR_STACK
const maxProblems = 20;

/** Inspects the file. An empty one, as a daemon leaves that was killed just after making it, has no problems. */
export function inspectDataFile(file: string): Inspection {
  const fd = openSync(file, 'r');
  try {
    const { size } = fstatSync(fd);
    if (size === 0) return { format: undefined, problems: [], saved: [] };
    const metas = [0, 1].flatMap(n => readMeta(fd, n, size) ?? []).sort((a, b) => Number(b.txnid - a.txnid));
    const [newest] = metas;
    if (!newest)
      return {
        format: undefined,
        problems: [`it has no meta page that can be read in its ${size} bytes`],
        saved: [],
      };
    const problems = metas.length < 2 ? ['one of its two meta pages cannot be read'] : [];
    if (new Set(metas.map(({ constants }) => constants)).size > 1) problems.push('its two meta pages differ');
    if (metas[1] && newest.txnid - metas[1].txnid !== 1n)
      problems.push('its meta pages do not follow one another');
    // While all is well nothing is kept: this is done at every start.
    let format: string | undefined;
    const onOwn = (key: string, text: string) => {
      if (key === 'format') format = text;
    };
    problems.push(...walk(fd, size, newest, { onOwn }));
    return { format, problems, saved: problems.length === 0 ? [] : saveRecords(fd, size, metas) };
  } finally {
    closeSync(fd);
  }
}

interface Meta {
  pageSize: number;
  lastPage: bigint;
  txnid: bigint;
  /** The head of the page but for what each commit changes. */
  constants: string;
  free: Tree;
  main: Tree;
}

/** MDB_db: what is said of a tree where it hangs. */
interface Tree {
  flags: number;
  depth: number;
  branches: bigint;
  leaves: bigint;
  overflows: bigint;
  entries: bigint;
  root: bigint;
}

function readMeta(fd: number, n: number, size: number): Meta | undefined {
  for (const pageSize of [4096, 8192, 16_384, 32_768, 65_536]) {
    const page = readBytes(fd, n * pageSize, metaBytes);
    if (page.length < metaBytes || page.readUInt32LE(headerBytes) !== magic) continue;
    const [free, main] = [page.subarray(48), page.subarray(48 + treeBytes)];
    const lastPage = page.readBigUInt64LE(144);
    const isMeta = page.readUInt16LE(18) === pageFlags.meta && page.readBigUInt64LE(0) === BigInt(n);
    if (!isMeta || free.readUInt32LE(0) !== pageSize || lastPage < 1n || lastPage > 2n ** 40n) continue;
    if (size < 2 * pageSize) continue;
    const mapSize = page.readBigUInt64LE(40);
    const txnid = page.readBigUInt64LE(152);
    if (mapSize % 4096n !== 0n || mapSize < (lastPage + 1n) * BigInt(pageSize) || mapSize > 2n ** 40n)
      continue;
    if (txnid % 2n !== BigInt(n)) continue; // commits take turns
    return {
      pageSize,
      lastPage,
      txnid,
      // Header, version, address of the map; flags; the boot in which it was written.
      constants: [page.subarray(8, 40), free.subarray(0, 6), main.subarray(0, 6), page.subarray(160, 168)]
        .map(part => part.toString('hex'))
        .join(),
      free: treeOf(free),
      main: treeOf(main),
    };
  }
  return undefined;
}

const treeOf = (bytes: Buffer): Tree => ({
  flags: bytes.readUInt16LE(4),
  depth: bytes.readUInt16LE(6),
  branches: bytes.readBigUInt64LE(8),
  leaves: bytes.readBigUInt64LE(16),
  overflows: bytes.readBigUInt64LE(24),
  entries: bytes.readBigUInt64LE(32),
  root: bytes.readBigUInt64LE(40),
});

function readBytes(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
}

function saveRecords(fd: number, size: number, metas: readonly Meta[]): SavedRecord[] {
  const saved = new Map<string, SavedRecord>();
  for (const meta of metas) {
    walk(fd, size, meta, {
      onRecord(record) {
        const name = JSON.stringify([record.collection, record.key]);
        if (!saved.has(name)) saved.set(name, record);
      },
    });
  }
  return [...saved.values()];
}

interface Visitor {
  onRecord?(record: SavedRecord): void;
  /** Told of what the store says of itself, beside its collections. */
  onOwn?(key: string, text: string): void;
}

/** Goes through everything that can be reached from a meta page; returns what is wrong on the way. */
function walk(fd: number, size: number, meta: Meta, { onRecord, onOwn }: Visitor): string[] {
  const { pageSize } = meta;
  const problems: string[] = [];
  const seen = new Set<bigint>();
  const problem = (text: string) => {
    if (problems.length < maxProblems) problems.push(text);
    return undefined;
  };

  /** Pages from `n` on, which must begin with the right header. */
  function readPages(n: bigint, count: number, wanted: readonly number[]): Buffer | undefined {
    if (n < 2n || n > meta.lastPage) return problem(`page ${n} is referred to, and cannot exist`);
    if (seen.has(n)) return problem(`page ${n} is referred to twice`);
    seen.add(n);
    const bytes = readBytes(fd, Number(n) * pageSize, count * pageSize);
    if (bytes.length < count * pageSize)
      return problem(`page ${n} is beyond the end of the file (${size} bytes)`);
    const isFromBefore = bytes.readBigUInt64LE(8) <= meta.txnid;
    if (bytes.readBigUInt64LE(0) === n && isFromBefore && wanted.includes(bytes.readUInt16LE(18)))
      return bytes;
    return problem(`page ${n} is not the page that should be there`);
  }

  /** The nodes of a tree page: header of 8 bytes, key, data. */
  function nodesOf(n: bigint, page: Buffer): Buffer[] {
    const [lower, upper] = [page.readUInt16LE(20), page.readUInt16LE(22)];
    if (lower % 2 !== 0 || lower > upper || upper > pageSize - headerBytes) {
      problem(`page ${n} has bounds that cannot be`);
      return [];
    }
    return Array.from({ length: lower / 2 }, (_, i) => page.readUInt16LE(headerBytes + 2 * i)).flatMap(at => {
      const node = page.subarray(headerBytes + at);
      if (at >= upper && node.length >= 8 && node.length >= 8 + node.readUInt16LE(6)) return [node];
      problem(`page ${n} has an entry that lies outside of it`);
      return [];
    });
  }

  /** A whole tree, and whether it is what its entry says: LMDB counts on that when it changes it. */
  function walkTree(tree: Tree, isInOrder: Order, onLeaf: OnLeaf): void {
    const found = { depth: 0, branches: 0n, leaves: 0n, overflows: 0n, entries: 0n };
    if (tree.root !== noPage) walkPage(tree.root, 1, found, isInOrder, onLeaf);
    const wrong = (Object.keys(found) as (keyof typeof found)[]).filter(name => found[name] !== tree[name]);
    if (wrong.length > 0) problem(`a tree has not the ${wrong.join(', ')} that it should have`);
  }

  function walkPage(n: bigint, depth: number, found: Found, isInOrder: Order, onLeaf: OnLeaf): void {
    if (depth > maxDepth) return void problem(`page ${n} is too deep in its tree`);
    found.depth = Math.max(found.depth, depth);
    const page = readPages(n, 1, [pageFlags.branch, pageFlags.leaf]);
    if (!page) return;
    const isLeaf = page.readUInt16LE(18) === pageFlags.leaf;
    if (isLeaf) found.leaves++;
    else found.branches++;
    let before: Buffer | undefined;
    for (const [i, node] of nodesOf(n, page).entries()) {
      const [low, flags, keyBytes] = [node.readUInt32LE(0), node.readUInt16LE(4), node.readUInt16LE(6)];
      const key = node.subarray(8, 8 + keyBytes);
      if (before && !isInOrder(before, key)) problem(`page ${n} has keys out of order`);
      if (isLeaf || i > 0) before = key; // a branch's first key stands for all that is less
      if (isLeaf) {
        found.entries++;
        const data = dataOf(n, node.subarray(8 + keyBytes), low, flags, found);
        if (data) onLeaf(key, flags, data);
      } else {
        walkPage(BigInt(low) | (BigInt(flags) << 32n), depth + 1, found, isInOrder, onLeaf);
      }
    }
  }

  function dataOf(n: bigint, rest: Buffer, bytes: number, flags: number, found: Found): Buffer | undefined {
    if (flags !== 0 && flags !== nodeFlags.overflow && flags !== nodeFlags.tree) {
      return problem(`page ${n} has an entry of no known kind`);
    }
    if (flags !== nodeFlags.overflow) {
      return rest.length >= bytes
        ? rest.subarray(0, bytes)
        : problem(`page ${n} has an entry that is cut off`);
    }
    const count = Math.floor((headerBytes - 1 + bytes) / pageSize) + 1; // OVPAGES
    if (rest.length < overflowBytes || rest.readBigUInt64LE(16) !== BigInt(count) || bytes > size) {
      return problem(`page ${n} has an entry whose size cannot be`);
    }
    found.overflows += BigInt(count);
    const pages = readPages(rest.readBigUInt64LE(0), count, [pageFlags.overflow]);
    return pages?.subarray(headerBytes, headerBytes + bytes);
  }

  const collections: [string, Tree][] = [];
  walkTree(meta.main, byBytes, (name, flags, data) => {
    if (flags !== nodeFlags.tree) return onOwn?.(keyText(name), data.toString());
    if (data.length !== treeBytes) return void problem('a database has no tree');
    const tree = treeOf(data);
    if (tree.flags !== 0 || data.readUInt32LE(0) !== 0)
      problem('a database is not of the kind that it was made');
    collections.push([keyText(name), tree]);
  });
  for (const [collection, tree] of collections) {
    walkTree(tree, byBytes, (key, _flags, data) =>
      onRecord?.({ collection, key: keyText(key), text: data.toString() }),
    );
  }
  // Last, when all pages in use are known: what is listed as free would be written over.
  const free: bigint[] = [];
  walkTree(meta.free, byNumber, (_, _flags, data) => free.push(...freePages(data)));
  if (free.some(n => n < 2n || n > meta.lastPage || seen.has(n))) problem('a page in use is listed as free');
  return problems;
}

type Order = (a: Buffer, b: Buffer) => boolean;
type OnLeaf = (key: Buffer, flags: number, data: Buffer) => void;
type Found = Omit<Tree, 'flags' | 'root'>;

const byBytes: Order = (a, b) => Buffer.compare(a, b) < 0;
/** Lists of free pages have transaction numbers for keys. */
const byNumber: Order = (a, b) =>
  a.length === 8 && b.length === 8 && a.readBigUInt64LE(0) < b.readBigUInt64LE(0);

/**
 * The first and last pages of what a list of free pages holds: a count, and then page numbers; -N before a number is a run
 * of N pages, 0 a place that is not used.
 */
function freePages(data: Buffer): bigint[] {
  const numbers = Array.from({ length: Math.floor(data.length / 8) }, (_, i) => data.readBigInt64LE(i * 8));
  const [count = -1n, ...list] = numbers;
  if (count < 0n || count > BigInt(list.length)) return [noPage];
  return list.slice(0, Number(count)).flatMap((n, i) => {
    if (n === 0n) return [];
    if (n < 0n) return [(list[i + 1] ?? noPage) - n - 1n];
    return [n];
  });
}

/** A key as it was given to lmdb, which writes texts as they are; those that begin with a control character are none of ours. */
const keyText = (key: Buffer) => key.toString();
