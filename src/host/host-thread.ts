// The daemon's end of the host thread: an ordinary asynchronous function for each thing the thread does.
import { Worker } from 'node:worker_threads';
import { HostError } from './libc.ts';
import type { OverlayRequest } from './overlay.ts';
import type { HostReply, HostRequest } from './thread.ts';

export interface HostThread {
  /** Makes a network namespace bound at `path`. @throws HostError */
  createNetns(path: string, options: { loopbackUp: boolean }): Promise<void>;
  /** Brings lo up in the network namespace at `path`. @throws HostError */
  bringLoopbackUp(path: string): Promise<void>;
  /** Mounts an overlay file system of any number of layers. @throws HostError */
  mountOverlay(request: OverlayRequest): Promise<void>;
  /** Opens a socket that lives in the namespace at `path`; returns its descriptor, which the caller owns. */
  socketInNetns(path: string, domain: number, type: number): Promise<number>;
  close(): Promise<void>;
}

interface Waiting {
  resolve(value: number): void;
  reject(error: Error): void;
}

/** Starts the host thread. Its heap is small: it holds no data. */
export function startHostThread(): HostThread {
  const worker = new Worker(new URL('./thread.js', import.meta.url), {
    name: 'host',
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 },
  });
  const waiting = new Map<number, Waiting>();
  let nextId = 0;

  worker.on('message', (reply: HostReply) => {
    const call = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (waiting.size === 0) worker.unref();
    if (reply.ok) call?.resolve(reply.value);
    else call?.reject(rebuild(reply));
  });
  worker.on('error', error => {
    for (const call of waiting.values()) call.reject(error);
    waiting.clear();
  });

  function ask(request: HostRequest): Promise<number> {
    return new Promise((resolve, reject) => {
      const id = nextId++;
      waiting.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage({ id, request });
    });
  }

  return {
    async createNetns(path, { loopbackUp }) {
      await ask({ op: 'createNetns', path, loopbackUp });
    },
    async bringLoopbackUp(path) {
      await ask({ op: 'loopbackUp', path });
    },
    async mountOverlay(overlay) {
      await ask({ op: 'mountOverlay', overlay });
    },
    socketInNetns: (path, domain, type) => ask({ op: 'socketInNetns', path, domain, type }),
    async close() {
      await worker.terminate();
    },
  };
}

function rebuild(reply: HostReply & { ok: false }): HostError {
  const error = new HostError(reply.call, reply.code, '');
  error.message = reply.message;
  return error;
}
