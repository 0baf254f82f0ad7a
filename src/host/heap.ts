// Gives back the memory that work has left as garbage, once there is no more work. V8 collects when it needs room, which a
// daemon that has become quiet never does: it would keep what its busiest minute took. Collecting holds everything up for
// some 60 ms, so it waits for a quiet moment, and for enough to have come together.
import { getHeapStatistics } from 'node:v8';
import { sys } from './libc.ts';

export interface HeapCare {
  /** Something was done just now. */
  busy(): void;
  close(): void;
}

const quietMs = 1000;
const worthBytes = 4 * 1024 * 1024;

/** Cares for the heap of the thread that calls it. Does nothing where Node was built without its inspector. */
export function startHeapCare(): HeapCare {
  let timer: NodeJS.Timeout | undefined;
  let lastBusy = 0;
  let afterLast = 0;

  async function look(): Promise<void> {
    if (performance.now() - lastBusy < quietMs) return;
    clearInterval(timer);
    timer = undefined;
    if (heapBytes() - afterLast < worthBytes) return;
    await collectAll().catch(() => {}); // it is tried again; nothing depends on it
    sys.mallocTrim(0);
    afterLast = heapBytes();
  }

  return {
    busy() {
      lastBusy = performance.now();
      timer ??= setInterval(look, quietMs).unref();
    },
    close: () => clearInterval(timer),
  };
}

const heapBytes = () => getHeapStatistics().total_heap_size;

/**
 * Collects as V8 does where memory is short: what is left is moved together, and the pages that become empty go back.
 * `gc()` of --expose-gc moves little; after the starts of 30 pods it left 6 MB more.
 */
async function collectAll(): Promise<void> {
  const inspector = await import('node:inspector').catch(() => undefined);
  if (!inspector) return;
  const session = new inspector.Session();
  session.connect();
  try {
    // Chrome DevTools Protocol: HeapProfiler.collectGarbage
    await new Promise(resolve => session.post('HeapProfiler.collectGarbage', resolve));
  } finally {
    session.disconnect();
  }
}
