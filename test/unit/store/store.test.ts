import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { open } from 'lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type DamagedRecord, openStore, storeFormat } from '../../../src/store/store.ts';
import { createFuzz } from '../../support/fuzz.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ct-store-'));
});
afterEach(() => {
  chmodSync(directory, 0o700);
  rmSync(directory, { recursive: true });
});

const schema = z.object({ name: z.string(), size: z.number() });
const ignore = () => {};

/** Writes into the store beside the daemon's back. */
async function tamper(change: (root: ReturnType<typeof open>) => void): Promise<void> {
  const root = open({ path: directory, maxDbs: 16, encoding: 'json' });
  change(root);
  await root.close();
}

describe('the store', () => {
  it('has after reopening what was put, and not what was removed', async () => {
    const first = openStore(directory, ignore);
    const written = first.collection('things', schema);
    await written.put('a', { name: 'a', size: 1 });
    await written.put('b', { name: 'b', size: 2 });
    await written.remove('a');
    await first.close();

    const second = openStore(directory, ignore);
    const things = second.collection('things', schema);
    expect(things.entries()).toEqual([['b', { name: 'b', size: 2 }]]);
    expect(things.get('a')).toBeUndefined();
    expect(things.get('b')).toEqual({ name: 'b', size: 2 });
    await second.close();
  });

  it('keeps collections apart', async () => {
    const store = openStore(directory, ignore);
    await store.collection('left', schema).put('a', { name: 'left', size: 1 });
    expect(store.collection('right', schema).get('a')).toBeUndefined();
    await store.close();
  });

  it('refuses a store of another format, and says what to do', async () => {
    await openStore(directory, ignore).close();
    await tamper(root => root.putSync('format', storeFormat + 1));
    expect(() => openStore(directory, ignore)).toThrow(
      new RegExp(
        `${directory} has format ${storeFormat + 1}, this cri-ts reads format ${storeFormat}.*--root`,
      ),
    );
  });

  it('refuses a store of another format that looks damaged to this one, and leaves it where it is', async () => {
    await openStore(directory, ignore).close();
    await tamper(root => {
      root.putSync('format', storeFormat + 1);
      // A kind of database that format 1 has none of.
      root.openDB({ name: 'index', dupSort: true, encoding: 'ordered-binary' }).putSync('a', 'b');
    });
    expect(() => openStore(directory, ignore)).toThrow(`${directory} has format ${storeFormat + 1}`);
    expect(existsSync(`${directory}.damaged-1`)).toBe(false);
  });

  it.each([
    ['a record of another shape', '{"name":"b"}', /size/],
    ['a record that is no JSON', '{"name":"b","si', /JSON/],
  ])('sets %s aside and gives the others', async (_, text, reason) => {
    const store = openStore(directory, ignore);
    const things = store.collection('things', schema);
    for (const name of ['a', 'b', 'c']) await things.put(name, { name, size: 1 });
    await store.close();
    await tamper(root => root.openDB({ name: 'things', encoding: 'string' }).putSync('b', text));

    const damaged: DamagedRecord[] = [];
    const again = openStore(directory, record => damaged.push(record));
    const found = again.collection('things', schema);
    expect(found.entries().map(([key]) => key)).toEqual(['a', 'c']);
    expect(found.get('b')).toBeUndefined();
    expect(damaged[0]).toMatchObject({ collection: 'things', key: 'b' });
    expect(damaged[0]?.reason).toMatch(reason);
    // It is kept: whoever mends it by hand finds it.
    expect(damaged).toHaveLength(2);
    await again.close();
  });
});

describe('a store whose file is damaged', () => {
  const file = () => join(directory, 'data.mdb');
  const count = 120;
  const value = (i: number) => ({ name: `n${i}`.padEnd(i % 7 === 0 ? 9000 : 300, 'x'), size: i });

  /** A store with records of one page and of several, in two collections. */
  async function filled(): Promise<Buffer> {
    const store = openStore(directory, ignore);
    const [things, others] = [store.collection('things', schema), store.collection('others', schema)];
    for (let i = 0; i < count; i++) await things.put(`key-${i}`, value(i));
    await others.put('one', value(1));
    await store.close();
    return readFileSync(file());
  }

  /** Opens it as the daemon would, and reads all; what was set aside is removed. */
  async function opened() {
    const damaged: DamagedRecord[] = [];
    const store = openStore(directory, record => damaged.push(record));
    const things = new Map(store.collection('things', schema).entries());
    const others = store.collection('others', schema).entries();
    await store.collection('others', schema).put('new', value(2));
    await store.close();
    for (const name of readdirSync(join(directory, '..'))) {
      if (name.startsWith(`${basename(directory)}.damaged-`))
        rmSync(join(directory, '..', name), { recursive: true });
    }
    return { damaged, things, others };
  }

  it('is opened as it is when nothing is wrong with it, many records and free pages too', async () => {
    await filled();
    const store = openStore(directory, ignore);
    const things = store.collection('things', schema);
    for (let i = 0; i < count; i += 2) await things.remove(`key-${i}`);
    await store.close();
    const { damaged, things: found } = await opened();
    expect(damaged).toEqual([]);
    expect(found.size).toBe(count / 2);
  });

  it.each([1, 100, 4095, 4096, 5000, 8191])(
    'is set aside when it is cut to %i bytes, and a new one begun',
    async bytes => {
      await filled();
      truncateSync(file(), bytes);
      const { damaged } = await opened();
      expect(damaged).toMatchObject([{ collection: 'store', key: directory }]);
      expect(damaged[0]?.reason).toContain(`${directory}.damaged-1`);
    },
  );

  it('is kept under another name, as it was, each time', async () => {
    for (const n of [1, 2]) {
      writeFileSync(file(), 'this is no store'.repeat(1000));
      await openStore(directory, ignore).close();
      const aside = `${directory}.damaged-${n}`;
      expect(readFileSync(join(aside, 'data.mdb'), 'latin1')).toContain('this is no store');
    }
    for (const n of [1, 2]) rmSync(`${directory}.damaged-${n}`, { recursive: true });
  });

  it('loses no more than was in what is missing', { timeout: 60_000 }, async () => {
    const whole = await filled();
    // A page, other than the roots, is made of noise: what was in others is still there.
    let hurt = 0;
    for (let page = 2; page < 80 && hurt < 12; page += 3) {
      const spoilt = Buffer.from(whole);
      spoilt.fill(0xa5, page * 4096, (page + 1) * 4096);
      writeFileSync(file(), spoilt);
      const { damaged, things } = await opened();
      for (const [key, { size }] of things) expect(size).toBe(Number(key.slice(4)));
      if (damaged.length === 0) expect(things.size).toBe(count);
      else hurt++;
    }
    expect(hurt).toBeGreaterThan(0);
  });

  it('with flipped bits never ends the process, and gives what was put, but for those bits', {
    timeout: 7_200_000,
  }, async () => {
    const { during, below, seed } = createFuzz();
    const whole = await filled();
    const outcomes = { whole: 0, saved: 0, records: 0, changedRecords: 0 };
    const rounds = await during(
      2,
      async () => {
        const spoilt = Buffer.from(whole);
        const flips = 1 + below(8);
        for (let left = flips; left > 0; left--) {
          const at = below(2) === 0 ? below(spoilt.length) : below(40) * 4096 + below(64);
          if (at < spoilt.length) spoilt[at] = (spoilt[at] ?? 0) ^ (1 << below(8));
        }
        writeFileSync(file(), below(8) === 0 ? spoilt.subarray(0, below(spoilt.length)) : spoilt);
        const { damaged, things } = await opened();
        for (const [key, found] of things) {
          const own = value(Number(key.slice(4)));
          if (isPut(key) && changes(own, found) === 0) continue;
          outcomes.changedRecords++;
          // A bit of a page's number leads to another record; one of a text makes another letter.
          const nearest = Math.min(...puts.map(put => changes(put.value, found)));
          const nearestKey = Math.min(...puts.map(put => lettersChanged(put.key, key)));
          const about = `${key} ${JSON.stringify(found)}, seed ${seed}`;
          expect(Math.max(nearest, nearestKey), about).toBeLessThanOrEqual(flips);
        }
        if (!damaged.some(({ collection }) => collection === 'store')) outcomes.whole++;
        else if (things.size > 0) outcomes.saved++;
        outcomes.records += things.size;
      },
      20,
    );
    console.log(`stores with flipped bits: ${rounds}, seed ${seed}`, outcomes);
    expect(outcomes.saved).toBeGreaterThan(0);
    expect(outcomes.records).toBeGreaterThan(rounds);
  });

  const puts = Array.from({ length: count }, (_, i) => ({ key: `key-${i}`, value: value(i) }));
  const isPut = (key: string) => puts.some(put => put.key === key);
  const changes = (a: { name: string; size: number }, b: { name: string; size: number }) =>
    lettersChanged(a.name, b.name) + lettersChanged(`${a.size}`, `${b.size}`);
  function lettersChanged(a: string, b: string): number {
    let changed = Math.abs(a.length - b.length);
    for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) changed++;
    return changed;
  }
});
