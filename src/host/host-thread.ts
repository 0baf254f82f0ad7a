// The daemon's end of the host thread: an ordinary asynchronous function for each thing the thread does. The thread does
// one after the other, and may be held up by the kernel. What has not begun when its signal aborts is never begun; what has
// begun goes on to its end, for which whoever takes away what it makes must wait.
import { Worker } from 'node:worker_threads';
import { HostError } from './libc.ts';
import type { OverlayRequest } from './overlay.ts';
import { type HostMessage, type HostReply, type HostRequest, progress } from './thread-messages.ts';

/** The functions that take a signal throw its reason when it aborts before they begin. */
export interface HostThread {
  /** Makes a network namespace bound at `path`. @throws HostError */
  createNetns(path: string, options: { loopbackUp: boolean; signal?: AbortSignal }): Promise<void>;
  /** Brings lo up in the network namespace at `path`. @throws HostError */
  bringLoopbackUp(path: string, signal: AbortSignal): Promise<void>;
  /** Mounts an overlay file system of any number of layers. @throws HostError */
  mountOverlay(request: OverlayRequest, signal?: AbortSignal): Promise<void>;
  /** Resolves when the thread makes and mounts nothing at `path` any more. */
  settled(path: string): Promise<void>;
  /** Opens a socket that lives in the namespace at `path`; returns its descriptor, which the caller owns. */
  socketInNetns(path: string, domain: number, type: number): Promise<number>;
  /** Starts the thread, if nothing has asked it for anything yet: the first pod need not wait for it then. */
  prepare(): void;
  close(): Promise<void>;
}

interface Call extends Answer {
  request: HostRequest;
  /** How far it is, which the thread changes too. */
  state: Int32Array;
}

/** The host thread, which starts when it is wanted. Its heap is small: it holds no data. */
export function openHostThread(): HostThread {
  let started: Worker | undefined;
  const waiting = new Map<number, Call>();
  let nextId = 0;

  function start(): Worker {
    const worker = new Worker(new URL('./thread.js', import.meta.url), {
      name: 'host',
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 },
    });
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
    worker.unref();
    return worker;
  }

  function thread(): Worker {
    started ??= start();
    return started;
  }

  async function ask(request: HostRequest, signal?: AbortSignal): Promise<number> {
    signal?.throwIfAborted();
    const id = nextId++;
    const state = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const call = { request, state, ...answerToCome() };
    const giveUp = () => {
      const { waits, givenUp } = progress;
      if (Atomics.compareExchange(state, 0, waits, givenUp) === waits) call.reject(signal?.reason);
    };
    signal?.addEventListener('abort', giveUp, { once: true });
    const worker = thread();
    waiting.set(id, call);
    worker.ref();
    worker.postMessage({ id, request, state } satisfies HostMessage);
    try {
      return await call.answer;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  return {
    async createNetns(path, { loopbackUp, signal }) {
      await ask({ op: 'createNetns', path, loopbackUp }, signal);
    },
    async bringLoopbackUp(path, signal) {
      await ask({ op: 'loopbackUp', path }, signal);
    },
    async mountOverlay(overlay, signal) {
      await ask({ op: 'mountOverlay', overlay }, signal);
    },
    async settled(path) {
      const going = [...waiting.values()].filter(
        ({ request, state }) => placeOf(request) === path && Atomics.load(state, 0) !== progress.givenUp,
      );
      await Promise.allSettled(going.map(({ answer }) => answer));
    },
    socketInNetns: (path, domain, type) => ask({ op: 'socketInNetns', path, domain, type }),
    prepare: () => void thread(),
    async close() {
      await started?.terminate();
    },
  };
}

/** Where a request makes something. */
function placeOf(request: HostRequest): string {
  return request.op === 'mountOverlay' ? request.overlay.target : request.path;
}

interface Answer {
  answer: Promise<number>;
  resolve(value: number): void;
  reject(reason: unknown): void;
}

function answerToCome(): Answer {
  let [resolve, reject]: [Answer['resolve'], Answer['reject']] = [() => {}, () => {}];
  const answer = new Promise<number>((...functions) => {
    [resolve, reject] = functions;
  });
  return { answer, resolve, reject };
}

function rebuild(reply: HostReply & { ok: false }): HostError {
  const error = new HostError(reply.call, reply.code, '');
  error.message = reply.message;
  return error;
}
