// Unix sockets in the two ways that node:net lacks: SOCK_SEQPACKET, and descriptors that come along with a message
// (SCM_RIGHTS, unix(7)).
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { check, HostError, sys } from './libc.ts';
import type { Readiness } from './readiness.ts';

const [addressFamilyUnix, streamType, packetType] = [1, 1, 5]; // AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET
const [closeOnExec, nonBlocking] = [0o2000000, 0o4000]; // SOCK_CLOEXEC, SOCK_NONBLOCK
const maxPathBytes = 107; // sun_path, with its final NUL
const shutWrite = 1; // SHUT_WR
const shutRead = 0; // SHUT_RD

/** struct sockaddr_un */
function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length > maxPathBytes) {
    throw new HostError(
      'bind',
      'ENAMETOOLONG',
      `the path of socket ${path} is longer than ${maxPathBytes} bytes`,
    );
  }
  const address = Buffer.alloc(2 + maxPathBytes + 1);
  address.writeUInt16LE(addressFamilyUnix, 0);
  bytes.copy(address, 2);
  return address;
}

/** Connects to the SOCK_SEQPACKET socket `name` in `directory`, whose path may be of any length. @throws HostError */
export function connectPacketSocket(directory: string, name: string): number {
  const what = `connecting to ${directory}/${name}`;
  const fd = check(sys.socket(addressFamilyUnix, packetType | closeOnExec | nonBlocking, 0), 'socket', what);
  try {
    const dir = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      const address = unixAddress(`/proc/self/fd/${dir}/${name}`);
      check(sys.connect(fd, address, address.length), 'connect', what);
    } finally {
      closeSync(dir);
    }
    return fd;
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/** Tells the other side that nothing more will be written. */
export function shutdownWrite(fd: number): void {
  sys.shutdown(fd, shutWrite); // the other side may be gone already, which is as good
}

/** Tells the other side that nothing more will be read: its next write fails. */
export function shutdownRead(fd: number): void {
  sys.shutdown(fd, shutRead);
}

export interface DescriptorInbox {
  /** The descriptor that came; its new owner closes it. Rejects when `close` is called before. */
  received: Promise<number>;
  /** Removes the socket. */
  close(): void;
}

/** Listens at `path` for one client that sends one descriptor, as an OCI runtime sends a pty's master. @throws HostError */
export function awaitDescriptor(path: string, readiness: Readiness): DescriptorInbox {
  const what = `waiting for a descriptor at ${path}`;
  const listener = check(
    sys.socket(addressFamilyUnix, streamType | closeOnExec | nonBlocking, 0),
    'socket',
    what,
  );
  const opened = [listener];
  let unwish = (): void => {};
  let giveUp = (_error: Error): void => {};
  const ready = (fd: number) =>
    new Promise<void>(resolve => {
      unwish = readiness.once(fd, 'readable', resolve);
    });

  async function receive(): Promise<number> {
    await ready(listener);
    const client = check(sys.accept4(listener, null, null, closeOnExec | nonBlocking), 'accept4', what);
    opened.push(client);
    await ready(client);
    return receiveDescriptor(client, what);
  }

  try {
    const address = unixAddress(path);
    check(sys.bind(listener, address, address.length), 'bind', what);
    check(sys.listen(listener, 1), 'listen', what);
  } catch (error) {
    sys.close(listener);
    throw error;
  }
  const received = Promise.race([
    receive(),
    new Promise<never>((_, reject) => {
      giveUp = reject;
    }),
  ]);
  received.catch(() => {}); // whoever waits for it is told; nobody has to
  return {
    received,
    close() {
      unwish();
      for (const fd of opened.splice(0)) sys.close(fd);
      try {
        unlinkSync(path);
      } catch {
        // removed with its directory
      }
      giveUp(new Error(`${what}: nothing came`));
    },
  };
}

const headerBytes = 16; // struct cmsghdr: length (8), level (4), type (4); then the descriptor
const [socketLevel, rights] = [1, 1]; // SOL_SOCKET, SCM_RIGHTS
const receiveCloseOnExec = 0x40000000; // MSG_CMSG_CLOEXEC

function receiveDescriptor(fd: number, what: string): number {
  const control = Buffer.alloc(headerBytes + 8);
  const message = {
    name: null,
    nameLength: 0,
    parts: { base: Buffer.alloc(4096), length: 4096 },
    partCount: 1,
    control,
    controlLength: control.length,
    flags: 0,
  };
  check(Number(sys.recvmsg(fd, message, receiveCloseOnExec)), 'recvmsg', what);
  if (control.readUInt32LE(8) !== socketLevel || control.readUInt32LE(12) !== rights) {
    throw new HostError('recvmsg', 'EBADMSG', `${what}: the message carries no descriptor`);
  }
  return control.readInt32LE(headerBytes);
}
