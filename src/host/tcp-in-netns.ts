// TCP connections made inside a pod's network namespace. The socket is born there (on the host thread) and belongs to
// that namespace for good; connecting and talking happen here.
import { type Socket as NetSocket, Socket } from 'node:net';
import type { HostThread } from './host-thread.ts';
import { check, HostError, hostErrorOf, sys } from './libc.ts';
import type { Readiness } from './readiness.ts';

const [inet, inet6] = [2, 10]; // AF_INET, AF_INET6
const streamSocket = 1 | 0o2000000 | 0o4000; // SOCK_STREAM, SOCK_CLOEXEC, SOCK_NONBLOCK
const [socketLevel, pendingError] = [1, 4]; // SOL_SOCKET, SO_ERROR

export interface NetnsTcpTarget {
  /** Where the namespace is bound. */
  readonly netnsPath: string;
  readonly address: 'loopback-v4' | 'loopback-v6';
  readonly port: number;
}

/** @throws HostError with the code of connect(2) (ECONNREFUSED, ...) or of entering the namespace */
export async function connectInNetns(
  { netnsPath, address, port }: NetnsTcpTarget,
  thread: HostThread,
  readiness: Readiness,
  signal: AbortSignal,
): Promise<NetSocket> {
  const fd = await thread.socketInNetns(netnsPath, address === 'loopback-v4' ? inet : inet6, streamSocket);
  try {
    await connect(fd, socketAddress(address, port), `connecting to port ${port}`, readiness, signal);
    return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/** struct sockaddr_in, struct sockaddr_in6 */
function socketAddress(address: NetnsTcpTarget['address'], port: number): Buffer {
  if (address === 'loopback-v4') {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16LE(inet, 0);
    bytes.writeUInt16BE(port, 2);
    bytes.set([127, 0, 0, 1], 4);
    return bytes;
  }
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(inet6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes[8 + 15] = 1; // ::1
  return bytes;
}

async function connect(
  fd: number,
  address: Buffer,
  what: string,
  readiness: Readiness,
  signal: AbortSignal,
): Promise<void> {
  try {
    check(sys.connect(fd, address, address.length), 'connect', what);
    return;
  } catch (error) {
    if (!(error instanceof HostError && error.code === 'EINPROGRESS')) throw error;
  }
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      unwish();
      reject(signal.reason);
    };
    const unwish = readiness.once(fd, 'writable', () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  const [value, length] = [Buffer.alloc(4), new Uint32Array([4])];
  check(sys.getsockopt(fd, socketLevel, pendingError, value, length), 'getsockopt', what);
  const errno = value.readInt32LE(0);
  if (errno !== 0) throw hostErrorOf(errno, 'connect', what);
}
