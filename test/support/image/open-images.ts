// The image part on a root of its own, for tests: no daemon around it, real overlay mounts.
import { mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountOverlayHere } from '../../../src/host/overlay.ts';
import { type Images, type ImagesOptions, openImages } from '../../../src/image/images.ts';
import { silentLogger } from '../../../src/log.ts';
import { openStore, type Store } from '../../../src/store/store.ts';

export interface TestImages {
  images: Images;
  store: Store;
  directory: string;
  root: string;
  /** Closes it, keeps its files, and opens it again, as a restart of the daemon would. */
  reopen(): Promise<Images>;
  remove(): Promise<void>;
}

/** Opens the image part in a new directory, or in `directory`; `storeOver` takes the place of parts of its store. */
export async function openTestImages(
  options: Partial<ImagesOptions> = {},
  directory?: string,
  storeOver: Partial<Store> = {},
): Promise<TestImages> {
  const base = directory ?? (await mkdtemp(join(tmpdir(), 'cri-ts-images-')));
  const root = join(base, 'root');
  const state = join(base, 'state');
  mkdirSync(state, { recursive: true });
  const open = async () => {
    const opened = openStore(join(root, 'store'), record => {
      throw new Error(`damaged record ${record.collection}/${record.key}: ${record.reason}`);
    });
    const store = { ...opened, ...storeOver };
    // The test's own process may change its directory for a mount; the daemon has a thread for it.
    const host = {
      async mountOverlay(request: Parameters<typeof mountOverlayHere>[0]) {
        const before = process.cwd();
        try {
          mountOverlayHere(request);
        } finally {
          process.chdir(before);
        }
      },
      async settled() {},
    };
    const images = await openImages({
      root,
      state,
      store,
      log: silentLogger(),
      host,
      environment: {},
      ...options,
    });
    return { images, store };
  };
  let current = await open();
  const close = async () => {
    await current.images.close();
    await current.store.close();
  };
  return {
    get images() {
      return current.images;
    },
    get store() {
      return current.store;
    },
    directory: base,
    root,
    async reopen() {
      await close();
      current = await open();
      return current.images;
    },
    async remove() {
      for (const id of current.images.rootfs.list()) await current.images.rootfs.remove(id);
      await close();
      await rm(base, { recursive: true, force: true });
    },
  };
}
