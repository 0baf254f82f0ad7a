// Container and sandbox events, from the lifecycles to whoever listens (GetContainerEvents, kubelet's evented PLEG).
// A listener never slows a lifecycle: events are put into its own bounded queue.
import type { ContainerEventType } from '../cri-api/types.ts';

/** Something happened to a container, or to a sandbox (its own id stands in `containerId` then). */
export interface PodEvent {
  type: ContainerEventType;
  containerId: string;
  sandboxId: string;
  /** Nanoseconds since the epoch, decimal. */
  at: string;
}

export interface PodEvents {
  publish(event: PodEvent): void;
  /** Events from now on, until `signal` aborts. A listener that falls `queueLimit` behind loses the oldest. */
  listen(signal: AbortSignal): AsyncIterable<PodEvent>;
  /** Ends all listening: a daemon that ends cannot wait for those who listen for ever. */
  close(): void;
}

const queueLimit = 10_000;

export function createPodEvents(): PodEvents {
  const listeners = new Set<(event: PodEvent) => void>();
  const closing = new AbortController();
  return {
    publish(event) {
      for (const listener of listeners) listener(event);
    },
    listen(signal) {
      const queue: PodEvent[] = [];
      let wake = () => {};
      const listener = (event: PodEvent) => {
        queue.push(event);
        if (queue.length > queueLimit) queue.shift();
        wake();
      };
      listeners.add(listener); // now, not at the first read: nothing that follows may be missed
      const ended = AbortSignal.any([signal, closing.signal]);
      const end = () => {
        listeners.delete(listener);
        wake();
      };
      ended.addEventListener('abort', end, { once: true });

      async function* read(): AsyncGenerator<PodEvent> {
        try {
          while (!ended.aborted) {
            const event = queue.shift();
            if (event) yield event;
            else await new Promise<void>(resolve => (wake = resolve));
          }
        } finally {
          end();
        }
      }
      return read();
    },
    close: () => closing.abort(),
  };
}
