// Where each version of containerd's file keeps a key, and where the canonical layout (version 3) does.
//   1  plugins by short names: [plugins.cri]
//   2  everything of CRI in [plugins."io.containerd.grpc.v1.cri"]
//   3  split into io.containerd.cri.v1.runtime and .images; the streaming server stays where it was
//   4  [grpc], [ttrpc], [debug] and [metrics] are plugins too
// Places of version 4 mean nothing else in older versions, so they are understood in all.
import { configFile, criPlugin, imagesPlugin, runtimePlugin } from './keys.ts';
import { formatPath, type KeyPath, leaves, setAt, type Table, tableSchema } from './tree.ts';

/** The place in one of the user's files from which a canonical key came. */
export interface Origin {
  /** "" for the command line. */
  readonly file: string;
  /** Layout of the file. */
  readonly version: number;
  readonly path: KeyPath;
}

export interface CanonicalTree {
  readonly tree: Table;
  readonly origins: Origins;
  /** Keys given twice, once in each of two layouts. */
  readonly conflicts: readonly { readonly path: KeyPath; readonly message: string }[];
}

interface Move {
  readonly from: KeyPath;
  readonly to: KeyPath;
  /** What becomes of the value on the way. */
  readonly convert?: (value: unknown) => unknown;
}

const cri = ['plugins', criPlugin];
const runtime = ['plugins', runtimePlugin];
const images = ['plugins', imagesPlugin];
const server = (name: string) => ['plugins', `io.containerd.server.v1.${name}`];

/** The first move whose `from` begins a path applies. */
const splitCriPlugin: readonly Move[] = [
  { from: [...cri, 'sandbox_image'], to: [...images, 'pinned_images', 'sandbox'] },
  ...[
    'registry',
    'image_decryption',
    'max_concurrent_downloads',
    'image_pull_progress_timeout',
    'image_pull_with_sync_fs',
    'stats_collect_period',
    'pinned_images',
  ].map(key => ({ from: [...cri, key], to: [...images, key] })),
  ...['snapshotter', 'disable_snapshot_annotations', 'discard_unpacked_layers'].map(key => ({
    from: [...cri, 'containerd', key],
    to: [...images, key],
  })),
  ...[
    'disable_tcp_service',
    'stream_server_address',
    'stream_server_port',
    'stream_idle_timeout',
    'enable_tls_streaming',
    'x509_key_pair_streaming',
  ].map(key => ({ from: [...cri, key], to: [...cri, key] })),
  { from: cri, to: runtime },
];

/** Paths that only version 2 has. */
export const keysOfVersion2: readonly KeyPath[] = splitCriPlugin
  .map(({ from }) => from)
  .filter(from => from !== cri);

const gatherServerPlugins: readonly Move[] = [
  { from: server('grpc'), to: ['grpc'] },
  ...['address', 'tls_ca', 'tls_cert', 'tls_key', 'tls_common_name'].map(key => ({
    from: [...server('grpc-tcp'), key],
    to: ['grpc', `tcp_${key}`],
  })),
  { from: server('ttrpc'), to: ['ttrpc'] },
  { from: server('debug'), to: ['debug'] },
  { from: server('metrics'), to: ['metrics'] },
  { from: ['plugins', 'io.containerd.metrics.v1.grpc-prometheus'], to: ['metrics'] },
];

const binDir: Move = {
  from: [...runtime, 'cni', 'bin_dir'],
  to: [...runtime, 'cni', 'bin_dirs'],
  convert: value => (value === '' ? undefined : [value]),
};

const shortNames: Readonly<Record<string, string>> = { cri: criPlugin };

/** Brings one parsed file of the given version into the canonical layout. */
export function toCanonical(file: string, version: number, raw: Table): CanonicalTree {
  const tree: Table = {};
  const origins = new Origins();
  const conflicts: { path: KeyPath; message: string }[] = [];
  for (const { path, value } of leaves(raw)) {
    const moved = moveKey(path, value, version);
    if (moved.value === undefined) continue;
    const earlier = origins.exact(moved.path);
    if (earlier !== undefined) {
      conflicts.push({ path, message: `means the same as ${formatPath(earlier.path)}; keep one of the two` });
      continue;
    }
    origins.add(moved.path, { file, version, path });
    setAt(tree, moved.path, moved.value);
  }
  return { tree, origins, conflicts };
}

function moveKey(path: KeyPath, value: unknown, version: number): { path: KeyPath; value: unknown } {
  const full = version < 2 ? withLongName(path) : path;
  const gathered = apply(gatherServerPlugins, full, value);
  const split = version < 3 ? apply(splitCriPlugin, gathered.path, gathered.value) : gathered;
  const { path: place, value: converted } = apply([binDir], split.path, split.value);
  return { path: inDeclaredCase(place), value: converted };
}

/** For a key of the CRI plugin that stands, in a version 3 file, where version 2 had it: its place now. */
export function placeInVersion3(path: KeyPath): KeyPath | undefined {
  const moved = apply(splitCriPlugin, path, undefined).path;
  return formatPath(moved) === formatPath(path) ? undefined : moved;
}

/** Where version 2 has a canonical key; keys that came later stay where they are. */
export function placeInVersion2(path: KeyPath): KeyPath {
  const move = splitCriPlugin.find(({ to }) => startsWith(path, to));
  return move === undefined ? path : [...move.from, ...path.slice(move.to.length)];
}

function apply(moves: readonly Move[], path: KeyPath, value: unknown): { path: KeyPath; value: unknown } {
  const move = moves.find(({ from }) => startsWith(path, from));
  if (move === undefined) return { path, value };
  return {
    path: [...move.to, ...path.slice(move.from.length)],
    value: move.convert === undefined ? value : move.convert(value),
  };
}

/** containerd matches keys in any case ("systemdCgroup" too), so known ones are brought into their declared case. */
function inDeclaredCase(path: KeyPath): KeyPath {
  let schema = tableSchema(configFile);
  return path.map(key => {
    if (schema.kind === 'value') return key;
    if (schema.kind === 'names') {
      schema = tableSchema(schema.value);
      return key;
    }
    const { shape } = schema;
    const declared = Object.hasOwn(shape, key)
      ? key
      : Object.keys(shape).find(known => known.toLowerCase() === key.toLowerCase());
    const below = declared === undefined ? undefined : shape[declared];
    schema = below === undefined ? { kind: 'value' } : tableSchema(below);
    return declared ?? key;
  });
}

function withLongName(path: KeyPath): KeyPath {
  const [first, name, ...rest] = path;
  const long = first === 'plugins' && name !== undefined ? shortNames[name] : undefined;
  return long === undefined ? path : ['plugins', long, ...rest];
}

function startsWith(path: KeyPath, beginning: KeyPath): boolean {
  return beginning.length <= path.length && beginning.every((key, index) => key === path[index]);
}

/** Canonical path -> where the user wrote it, so that messages speak of the user's own file. */
export class Origins {
  readonly #byPath = new Map<string, Origin>();

  add(path: KeyPath, origin: Origin): void {
    this.#byPath.set(lookupKey(path), origin);
  }

  addAll(others: Origins): void {
    for (const [key, origin] of others.#byPath) this.#byPath.set(key, origin);
  }

  exact(path: KeyPath): Origin | undefined {
    return this.#byPath.get(lookupKey(path));
  }

  /** The origin of a key, of the list or table it is part of, or of a table by one of its keys. */
  find(path: KeyPath): Origin | undefined {
    for (let length = path.length; length > 0; length -= 1) {
      const found = this.exact(path.slice(0, length));
      if (found !== undefined) return { ...found, path: [...found.path, ...path.slice(length)] };
    }
    const prefix = `${lookupKey(path).slice(0, -1)},`;
    for (const [key, origin] of this.#byPath) {
      if (!key.startsWith(prefix)) continue;
      const deeper = (JSON.parse(key) as string[]).length - path.length;
      return { ...origin, path: origin.path.slice(0, origin.path.length - deeper) };
    }
    return undefined;
  }
}

function lookupKey(path: KeyPath): string {
  return JSON.stringify(path);
}
