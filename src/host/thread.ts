// The host thread: does on a thread of its own what changes the calling thread (network namespace, working
// directory) or may block in the kernel. Driven by src/host/host-thread.ts over messages.
import { parentPort } from 'node:worker_threads';
import { startHeapCare } from './heap.ts';
import { check, HostError, sys } from './libc.ts';
import { bringLoopbackUp, createNetnsHere, insideNetnsHere } from './netns.ts';
import { mountOverlayHere } from './overlay.ts';
import { type HostMessage, type HostReply, type HostRequest, progress } from './thread-messages.ts';

const cloneFs = 0x200;

/** Returns a file descriptor for socketInNetns, else 0. */
function perform(request: HostRequest): number {
  switch (request.op) {
    case 'createNetns':
      createNetnsHere(request.path, { loopbackUp: request.loopbackUp });
      return 0;
    case 'loopbackUp':
      insideNetnsHere(request.path, bringLoopbackUp);
      return 0;
    case 'mountOverlay':
      mountOverlayHere(request.overlay);
      return 0;
    case 'socketInNetns':
      return insideNetnsHere(request.path, () =>
        check(sys.socket(request.domain, request.type, 0), 'socket', `opening a socket in ${request.path}`),
      );
  }
}

if (parentPort) {
  const port = parentPort;
  check(sys.unshare(cloneFs), 'unshare', 'giving the host thread a working directory of its own');
  const heap = startHeapCare();
  heap.busy();
  port.on('message', (message: HostMessage) => {
    port.postMessage(answer(message));
    heap.busy();
  });
}

function answer({ id, request, state }: HostMessage): HostReply {
  const { waits, begun } = progress;
  if (Atomics.compareExchange(state, 0, waits, begun) !== waits) return { id, ok: true, value: 0 };
  try {
    return { id, ok: true, value: perform(request) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const { call, code } = error instanceof HostError ? error : { call: request.op, code: 'EIO' };
    return { id, ok: false, message, call, code };
  }
}
