// Runs what brings images onto the node and takes them off it (lifecycle.ts) through the engine, and takes up again
// what an operation, or a killed daemon, could not finish.
import { randomUUID } from 'node:crypto';
import { CriError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Engine } from '../steps/engine.ts';
import { type Plan, stepsOf } from '../steps/step.ts';
import type { Collection } from '../store/store.ts';
import type { Garbage } from './garbage.ts';
import type { LayerProgress } from './layers.ts';
import { type ImagePlans, type ImageWork, intend } from './lifecycle.ts';
import { type ImageRecord, type ImageRecords, type ImageWorkRecord, imageWorkSchema } from './records.ts';
import type { WantedImage } from './wanted.ts';

export interface BringOptions {
  signal: AbortSignal;
  onProgress?: ((progress: LayerProgress) => void) | undefined;
}

export interface Works {
  /** Pulls what `resolve` finds for `name`. @throws what made a step fail, with what was begun undone */
  pull(name: string, resolve: ImageWork['resolve'], options: BringOptions): Promise<ImageRecord>;
  /** Brings an image of an archive onto the node. `name` is for logs and errors. */
  import(name: string, image: WantedImage, options: BringOptions): Promise<ImageRecord>;
  /** Removes the image with all its names, and what nothing else uses. `name` is for logs and errors. */
  remove(name: string, image: ImageRecord): Promise<void>;
  /** Undoes what is still owed by operations that are over. @throws the first failure; the rest was tried, too */
  finish(): Promise<void>;
}

export function createWorks(parts: {
  records: ImageRecords;
  plans: ImagePlans;
  engine: Engine;
  garbage: Garbage;
  log: Logger;
  now: () => number;
}): Works {
  const { records, plans, engine, garbage, log, now } = parts;
  const underWay = new Set<string>();

  function make(operation: ImageWorkRecord['operation'], id: string, createdAtMs: number): ImageWork {
    const record = { key: randomUUID(), operation, id, image: '', createdAtMs, names: [], blobs: [] };
    return bindWork({ ...record, owed: [], times: {} }, records.work);
  }

  /** Runs `run` while nobody takes the work for a left one. */
  async function during(work: ImageWork, run: () => Promise<void>): Promise<void> {
    underWay.add(work.key);
    try {
      await run();
    } finally {
      work.letGo();
      underWay.delete(work.key);
    }
  }

  async function bring(plan: Plan<ImageWork>, work: ImageWork, signal: AbortSignal): Promise<ImageRecord> {
    try {
      await during(work, () => engine.bringUp(work.operation, plan, work, signal));
    } catch (error) {
      // What was fetched would be kept for the next attempt; on a full disk that would be in its way.
      const isFull = error instanceof CriError && error.kind === 'resourceExhausted';
      if (isFull) await garbage.collectBlobs(0, new Set()).catch(() => {});
      throw error;
    }
    if (!work.listed) throw new Error(`${work.id} was brought onto the node but not listed`);
    return work.listed;
  }

  return {
    async pull(name, resolve, { signal, onProgress }) {
      const work = Object.assign(make('PullImage', name, now()), { resolve, onProgress });
      return bring(plans.pull, work, signal);
    },
    async import(name, image, { signal, onProgress }) {
      const work = Object.assign(make('ImportImage', name, now()), { onProgress });
      intend(work, image, records);
      return bring(plans.import, work, signal);
    },
    async remove(name, image) {
      const work = make('RemoveImage', name, image.createdAtMs);
      work.image = image.id;
      work.blobs = image.blobs;
      work.names = records.names
        .entries()
        .filter(([, { image: id }]) => id === image.id)
        .map(([each, { by }]) => ({ name: each, by, before: null }));
      work.owed = stepsOf(plans.import).map(step => step.name);
      await during(work, async () => {
        await work.save(); // the intent, before the first act
        await engine.takeDown(work.operation, plans.pull, work);
      });
    },
    async finish() {
      const failures: unknown[] = [];
      for (const [key, record] of records.work.entries()) {
        // Asked for each in turn: another may have taken it up, or ended it, while one before it was undone.
        if (underWay.has(key) || !records.work.get(key)) continue;
        const work = bindWork(record, records.work);
        const { operation, id } = work;
        log.warn({ operation, image: id }, 'an image operation was not finished: undoing what is left of it');
        await during(work, () => engine.takeDown(operation, plans.pull, work)).catch(error => {
          log.error({ operation, image: id, err: error }, 'undoing is not finished; it will be tried again');
          failures.push(error);
        });
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}

/** Binds a record to its collection. A record that owes nothing is no more. */
function bindWork(record: ImageWorkRecord, records: Collection<ImageWorkRecord>): ImageWork {
  let forgotten = false;
  return Object.assign(record, {
    async save() {
      if (forgotten) return;
      // Only what the schema knows; what is to be brought is no part of it.
      if (record.owed.length > 0) await records.put(record.key, imageWorkSchema.parse(record));
      else await records.remove(record.key);
    },
    async forget() {
      await records.remove(record.key);
      forgotten = true;
    },
    resolve: () => Promise.reject(new Error(`${record.id} is not to be pulled`)),
    wanted: undefined,
    listed: undefined,
    writing: undefined,
    onProgress: undefined,
    letGo() {},
  });
}
