// What passes between the host thread (thread.ts) and the daemon's end of it (host-thread.ts).
import type { OverlayRequest } from './overlay.ts';

export type HostRequest =
  | { op: 'createNetns'; path: string; loopbackUp: boolean }
  | { op: 'loopbackUp'; path: string }
  | { op: 'mountOverlay'; overlay: OverlayRequest }
  | { op: 'socketInNetns'; path: string; domain: number; type: number };

export interface HostMessage {
  id: number;
  request: HostRequest;
  /** One number in shared memory, of `progress`: a message that takes a request back would come after its turn. */
  state: Int32Array;
}

/** A request that waits is either begun by the thread or given up by the daemon: whoever changes it first. */
export const progress = { waits: 0, begun: 1, givenUp: 2 } as const;

/** One comes for each request, also for one that was given up. */
export type HostReply =
  | { id: number; ok: true; value: number }
  | { id: number; ok: false; message: string; call: string; code: string };
