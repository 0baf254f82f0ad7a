// Hot reload: loads the networks of a directory again when it changes, so that a network installed later (most are:
// by a pod) makes the node ready without a restart. The directory may not exist yet, or be replaced while watched; the
// plugin directories are watched too, since a missing plugin is a problem of the configuration.
import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type LoadedNetworks, type LoadOptions, loadNetworks } from './load-networks.ts';

export interface WatchOptions extends LoadOptions {
  /** Milliseconds without a further change until the directory is read. Default 200. */
  debounceMs?: number | undefined;
  /** Milliseconds between reads when the kernel has no watches left. Default 5000. */
  pollMs?: number | undefined;
}

export interface NetworkWatch {
  /** What was loaded last. */
  readonly current: LoadedNetworks;
  /** Reads the directory now. */
  reload(): Promise<LoadedNetworks>;
  close(): void;
}

/**
 * Loads the networks, then watches. `onChange` is called whenever what is loaded differs from before, not for the
 * first load.
 */
export async function watchNetworks(
  options: WatchOptions,
  onChange: (loaded: LoadedNetworks) => void,
): Promise<NetworkWatch> {
  const { debounceMs = 200, pollMs = 5000 } = options;
  let current: LoadedNetworks;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  let loading: Promise<unknown> = Promise.resolve();

  const watches = createWatches(() => schedule(debounceMs));

  function schedule(delay: number): void {
    if (closed) return;
    clearTimeout(timer);
    timer = setTimeout(() => void reload(), delay);
    timer.unref();
  }

  /** Arms the watches before reading: a change during the reading is seen either way. */
  async function load(): Promise<LoadedNetworks> {
    const armed = await watches.arm(
      [options.confDir, ...options.binDirs],
      await subdirectories(options.confDir),
    );
    if (!armed) schedule(pollMs);
    return loadNetworks(options);
  }

  function reload(): Promise<LoadedNetworks> {
    const next = loading.then(async () => {
      if (closed) return current;
      const loaded = await load();
      const changed = JSON.stringify(loaded) !== JSON.stringify(current);
      current = loaded;
      if (changed && !closed) onChange(current);
      return current;
    });
    loading = next;
    return next;
  }

  current = await load();
  return {
    get current() {
      return current;
    },
    reload,
    close() {
      closed = true;
      clearTimeout(timer);
      watches.close();
    },
  };
}

/** Where the plugins of a network may stand in files of their own; also of a network that cannot be used yet. */
async function subdirectories(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  return entries.filter(entry => entry.isDirectory()).map(entry => join(dir, entry.name));
}

interface Watches {
  /** Watches `dirs`, each with what leads to it, and `folders`. False when a watch was refused. */
  arm(dirs: readonly string[], folders: readonly string[]): Promise<boolean>;
  close(): void;
}

/** Watches on directories, by path. A watch is bound to an inode, so a directory that was replaced gets a new one. */
function createWatches(onEvent: () => void): Watches {
  interface Armed {
    identity: string;
    watcher: FSWatcher;
    /** Names in the directory that matter; undefined: all. */
    names: Set<string> | undefined;
  }
  const armed = new Map<string, Armed>();
  let closed = false;

  /** The directory itself, and every existing one above it up to the first that exists: `names` is what may appear there. */
  async function wanted(dirs: readonly string[], folders: readonly string[]) {
    const names = new Map<string, Set<string> | undefined>();
    for (const dir of dirs.map(path => resolve(path))) {
      if ((await identityOf(dir)) !== undefined) names.set(dir, undefined);
      let child = dir;
      while (child !== dirname(child)) {
        const parent = dirname(child);
        const known = names.get(parent);
        if (!names.has(parent)) names.set(parent, new Set([basename(child)]));
        else known?.add(basename(child));
        // Of an existing parent no more is needed: it is replaced far more rarely than the directory itself.
        if ((await identityOf(parent)) !== undefined) break;
        child = parent;
      }
    }
    for (const folder of folders) names.set(resolve(folder), undefined);
    return names;
  }

  async function armOne(path: string, names: Set<string> | undefined): Promise<boolean> {
    const identity = await identityOf(path);
    const before = armed.get(path);
    if (before !== undefined && before.identity === identity) {
      before.names = names;
      return true;
    }
    before?.watcher.close();
    armed.delete(path);
    if (identity === undefined || closed) return true;
    try {
      const watcher = watch(path, { persistent: false }, (_event, name) => {
        const entry = armed.get(path);
        if (name === null || entry?.names === undefined || entry.names.has(name)) onEvent();
      });
      watcher.on('error', () => {
        watcher.close();
        armed.delete(path);
        onEvent();
      });
      armed.set(path, { identity, watcher, names });
      return true;
    } catch {
      return false; // No watches left (fs.inotify.max_user_watches), or gone again: the caller polls.
    }
  }

  return {
    async arm(dirs, folders) {
      const names = await wanted(dirs, folders);
      for (const [path, { watcher }] of armed) {
        if (names.has(path)) continue;
        watcher.close();
        armed.delete(path);
      }
      const results = await Promise.all([...names].map(([path, set]) => armOne(path, set)));
      return results.every(Boolean);
    },
    close() {
      closed = true;
      for (const { watcher } of armed.values()) watcher.close();
      armed.clear();
    },
  };
}

async function identityOf(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path, { bigint: true });
    return found.isDirectory() ? `${found.dev}:${found.ino}` : undefined;
  } catch {
    return undefined; // Absent, or not to be reached: looked at again at the next event.
  }
}
