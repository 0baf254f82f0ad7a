// What containers have written to their root file systems. Walking directories takes time, so it is done in a period of
// its own, one container after another. Only for a layer that was never measured may somebody wait.
import { nowNs } from '../container/container.ts';
import type { DiskUsage } from '../image/jobs.ts';
import { measureSmall } from '../image/measure-small.ts';
import type { RootFilesystems } from '../image/rootfs.ts';
import type { Logger } from '../log.ts';

export interface MeasuredLayer extends DiskUsage {
  /** Nanoseconds since the epoch, decimal. */
  at: string;
}

export interface LayerUsage {
  /** As last measured; undefined when it never was. */
  of(containerId: string): MeasuredLayer | undefined;
  /** Measures what was never measured. Resolves when that is done. */
  measureNew(): Promise<void>;
  close(): void;
}

export interface LayerUsageOptions {
  rootfs: Pick<RootFilesystems, 'usage' | 'upperDirectory'>;
  periodMs: number;
  /** Ids of the containers to measure. */
  containers(): string[];
  log: Logger;
}

export function createLayerUsage({ rootfs, periodMs, containers, log }: LayerUsageOptions): LayerUsage {
  const measured = new Map<string, MeasuredLayer>();
  let latest: Promise<void> = Promise.resolve();

  async function measure(id: string): Promise<void> {
    try {
      const usage = (await measureSmall(rootfs.upperDirectory(id))) ?? (await rootfs.usage(id));
      measured.set(id, { ...usage, at: nowNs() });
    } catch (error) {
      log.debug(
        { container: id, err: error },
        'measuring a writable layer failed; the next period tries again',
      );
    }
  }

  async function measureAll(): Promise<void> {
    const ids = containers();
    const wanted = new Set(ids);
    for (const id of measured.keys()) if (!wanted.has(id)) measured.delete(id);
    for (const id of ids) await measure(id);
  }

  /** One at a time: who comes while another is under way waits for it. */
  function enqueue(work: () => Promise<void>): Promise<void> {
    latest = latest.then(work);
    return latest;
  }

  let idle = true;
  const timer = setInterval(() => {
    if (!idle) return; // the last round takes longer than the period
    idle = false;
    void enqueue(measureAll).finally(() => {
      idle = true;
    });
  }, periodMs);
  timer.unref();

  return {
    of: id => measured.get(id),
    measureNew: () =>
      enqueue(async () => {
        for (const id of containers()) if (!measured.has(id)) await measure(id);
      }),
    close: () => clearInterval(timer),
  };
}
