// Port-forward's way into a pod: TCP connections made in the pod's network namespace to its localhost, IPv4 first, then
// IPv6. A pod on the host's network is reached on the host's localhost.
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { CriError, codeOf, messageOf } from '../errors.ts';
import type { HostThread } from '../host/host-thread.ts';
import type { Readiness } from '../host/readiness.ts';
import { connectInNetns } from '../host/tcp-in-netns.ts';
import type { PortForwardBackend } from './requests.ts';

export interface PortForwardParts {
  readonly thread: HostThread;
  readonly readiness: Readiness;
  /** Where the pod's network namespace is bound; null = the host's own. @throws CriError notFound, wrongState */
  netnsPath(sandboxId: string): string | null;
}

const loopbacks = ['loopback-v4', 'loopback-v6'] as const;
type Loopback = (typeof loopbacks)[number];
const hostAddresses: Record<Loopback, string> = { 'loopback-v4': '127.0.0.1', 'loopback-v6': '::1' };

export function createPortForwardBackend(parts: PortForwardParts): PortForwardBackend {
  return {
    connectTo: sandboxId => async (port, signal) => {
      const netnsPath = parts.netnsPath(sandboxId);
      const failures: string[] = [];
      for (const address of loopbacks) {
        try {
          if (netnsPath === null) return await connectOnHost(address, port, signal);
          return await connectInNetns({ netnsPath, address, port }, parts.thread, parts.readiness, signal);
        } catch (error) {
          failures.push(`${hostAddresses[address]}: ${reason(error)}`);
        }
      }
      throw new CriError('unavailable', failures.join('; '));
    },
  };
}

function connectOnHost(address: Loopback, port: number, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostAddresses[address], port, allowHalfOpen: true, signal });
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** In the words that users of port-forward know. */
function reason(error: unknown): string {
  return codeOf(error) === 'ECONNREFUSED' ? 'connection refused' : messageOf(error);
}
