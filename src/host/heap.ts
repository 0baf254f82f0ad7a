// Gives back the memory that work has left as garbage, once there is no more work. V8 collects when it needs room, which a
// daemon that has become quiet never does: it would keep what its busiest minute took. Collecting holds everything up for
// some 30 ms, so it waits for a quiet moment, and for enough to have come together.
import { getHeapStatistics } from 'node:v8';
import { sys } from './libc.ts';

export interface HeapCare {
  /** Something was done just now. */
  busy(): void;
  close(): void;
}

const quietMs = 1000;
const worthBytes = 4 * 1024 * 1024;

/** Does nothing where V8 does not let itself be asked (`node --expose-gc`, as bin/cri-ts has it). */
export function startHeapCare(): HeapCare {
  const { gc } = globalThis;
  let timer: NodeJS.Timeout | undefined;
  let lastBusy = 0;
  let afterLast = 0;

  function look(): void {
    if (performance.now() - lastBusy < quietMs) return;
    clearInterval(timer);
    timer = undefined;
    if (heapBytes() - afterLast < worthBytes) return;
    gc?.();
    // The pages that were emptied go back when they are found empty a second time.
    setImmediate(() => {
      gc?.();
      sys.mallocTrim(0);
      afterLast = heapBytes();
    });
  }

  return {
    busy() {
      lastBusy = performance.now();
      if (gc) timer ??= setInterval(look, quietMs).unref();
    },
    close: () => clearInterval(timer),
  };
}

const heapBytes = () => getHeapStatistics().total_heap_size;
