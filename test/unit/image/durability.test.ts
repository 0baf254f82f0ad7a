// The note that says that image data is in flight must be in the store whenever somebody writes, whatever the store has
// committed so far of what it was told.
import { beforeEach, describe, expect, it } from 'vitest';
import { createDurability, type Durability } from '../../../src/image/durability.ts';
import type { ImageRecords } from '../../../src/image/records.ts';
import { silentLogger } from '../../../src/log.ts';

type Note = NonNullable<ReturnType<ImageRecords['unflushed']['get']>>;

/** A collection that commits in order, when it is let. */
function slowRecords() {
  const committed = new Map<string, Note>();
  const told: { act(): void; resolve(): void; reject(error: Error): void }[] = [];
  const tell = (act: () => void) =>
    new Promise<void>((resolve, reject) => told.push({ act, resolve, reject }));
  return {
    committed,
    told,
    commit() {
      for (const { act, resolve } of told.splice(0)) {
        act();
        resolve();
      }
    },
    fail() {
      for (const { reject } of told.splice(0)) reject(new Error('the disk is full'));
    },
    collection: {
      get: (key: string) => committed.get(key),
      entries: () => [...committed],
      keys: () => [],
      put: (key: string, note: Note) => tell(() => committed.set(key, note)),
      remove: (key: string) => tell(() => committed.delete(key)),
    },
  };
}

/** Everything that is ready to go on has gone on. */
const settled = () => new Promise(resolve => setImmediate(resolve));

describe('the note that data is in flight', () => {
  let records: ReturnType<typeof slowRecords>;
  let durability: Durability;
  beforeEach(() => {
    records = slowRecords();
    durability = createDurability(records.collection, {
      directory: '/',
      pool: { run: async () => null as never, prepare() {}, close: async () => {} },
      log: silentLogger(),
    });
  });
  async function begin(sinceMs = 1000) {
    const begun = durability.begin(sinceMs);
    records.commit();
    return begun;
  }

  it('is there before the first write, and gone after the flush that follows the last', async () => {
    const ends = [await begin(), await begin()];
    expect(records.committed.size).toBe(1);
    ends[0]?.();
    await settled();
    expect(records.told).toHaveLength(0);
    ends[1]?.();
    await settled();
    records.commit();
    expect(records.committed.size).toBe(0);
  });

  it('says the age of the oldest writer, whichever was the first to write', async () => {
    const since = () => [...records.committed.values()].map(({ sinceMs }) => sinceMs);
    const ends = [await begin(2000)];
    expect(since()).toEqual([2000]);
    ends.push(await begin(1000), await begin(3000));
    expect(since()).toEqual([1000]);
    for (const end of ends) end();
    await settled();
    records.commit();
    await begin(4000);
    expect(since()).toEqual([4000]);
  });

  it('is made again by a writer who comes while the last one is being removed', async () => {
    (await begin())();
    await settled();
    expect(records.told).toHaveLength(1); // its removal
    const end = await begin();
    expect(records.committed.size).toBe(1);
    end();
    await settled();
    records.commit();
    expect(records.committed.size).toBe(0);
  });

  it('that cannot be written fails the writer, and is not waited for by the next flush', async () => {
    const failed = durability.begin(1000);
    records.fail();
    await expect(failed).rejects.toThrow('the disk is full');
    (await begin())();
    await settled();
    records.commit();
    expect(records.committed.size).toBe(0);
  });
});
