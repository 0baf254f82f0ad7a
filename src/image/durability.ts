// Image data is written without waiting for the disk; that is most of why a pull is quick. A killed daemon
// loses nothing by it, because the kernel has the data. A machine that goes down may. So, before the first
// write, a record says that this boot has data in flight; it is taken back when the file system was flushed,
// in the background. A record of another boot means: doubt what is younger (src/image/recover.ts).
import { readFileSync } from 'node:fs';
import type { Logger } from '../log.ts';
import type { WorkerPool } from './pool.ts';
import type { ImageRecords } from './records.ts';

const key = 'writing';

export interface Durability {
  /**
   * Call before writing image data; call what it returns when done. `sinceMs` is the age that the records will be given:
   * nothing of this writer is older.
   */
  begin(sinceMs: number): Promise<() => void>;
  /** When the machine went down with data in flight: since when it was. */
  doubtedSince(): number | undefined;
  /** The doubt is cleared. */
  settled(): Promise<void>;
  /** Resolves when nothing is in flight any more. */
  idle(): Promise<void>;
}

export function createDurability(
  records: ImageRecords['unflushed'],
  { directory, pool, log }: { directory: string; pool: WorkerPool; log: Logger },
): Durability {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  let writers = 0;
  let changes = 0;
  let flushing: Promise<void> | undefined;
  /** The record is there, or is told to the store, which commits in the order in which it is told. */
  let recorded = records.get(key) ? Promise.resolve() : undefined;
  /** What the record says. */
  let since = records.get(key)?.sinceMs ?? 0;

  async function flush(): Promise<void> {
    while (writers === 0 && recorded) {
      const seen = changes;
      await pool.run('sync', { path: directory });
      if (writers > 0 || changes !== seen) continue;
      recorded = undefined;
      await records.remove(key);
    }
  }

  function startFlush(): void {
    flushing ??= flush()
      .catch(error => log.warn({ err: error }, 'image data could not be flushed to disk'))
      .finally(() => {
        flushing = undefined;
      });
  }

  return {
    async begin(sinceMs) {
      writers++;
      changes++;
      if (!recorded || sinceMs < since) {
        since = sinceMs;
        recorded = records.put(key, { bootId, sinceMs });
      }
      try {
        await recorded;
      } catch (error) {
        writers--;
        recorded = undefined;
        throw error;
      }
      return () => {
        writers--;
        if (writers === 0) startFlush();
      };
    },
    doubtedSince() {
      const found = records.get(key);
      return found && found.bootId !== bootId ? found.sinceMs : undefined;
    },
    async settled() {
      recorded = undefined;
      await records.remove(key);
    },
    async idle() {
      await flushing;
    },
  };
}
