// Tells when a file descriptor can be read or written, for descriptors that Node's own event loop does not take:
// pidfds, SOCK_SEQPACKET sockets, pty masters. One epoll set waits for all of them on one thread of libuv's pool.
// What becomes ready is told once; who wants to hear again asks again, and so is never told more than it can take.
import { promisify } from 'node:util';
import { check, sys } from './libc.ts';

export type Direction = 'readable' | 'writable';

export interface Readiness {
  /**
   * Calls back once when `fd` can be read (or written), has ended or has failed: the next read (or write) tells.
   * Returns a function that takes the wish back; take back all wishes of a descriptor before closing it.
   * @throws HostError when the kernel cannot wait for one more
   */
  once(fd: number, direction: Direction, callback: () => void): () => void;
  close(): void;
}

const [add, remove, modify] = [1, 2, 3]; // EPOLL_CTL_*
const oneShot = 1 << 30; // EPOLLONESHOT
const interest = { readable: 0x001, writable: 0x004 } as const; // EPOLLIN, EPOLLOUT
const endOrFailure = 0x008 | 0x010; // EPOLLERR, EPOLLHUP
const closeOnExec = 0o2000000; // EPOLL_CLOEXEC, EFD_CLOEXEC
// struct epoll_event: packed on x86-64 only.
const [eventBytes, eventDataOffset] = process.arch === 'x64' ? [12, 4] : [16, 8];
const eventsAtOnce = 64;

/** The wishes for one descriptor. */
interface Entry {
  /** Tells this entry from an earlier one of the same descriptor number, whose event may still be on its way. */
  readonly generation: number;
  readonly wishes: Map<Direction, () => void>;
}

export function startReadiness(): Readiness {
  const epoll = check(sys.epollCreate1(closeOnExec), 'epoll_create1', 'waiting for descriptors');
  const wake = check(sys.eventfd(0, closeOnExec), 'eventfd', 'waiting for descriptors');
  const entries = new Map<number, Entry>();
  const wait = promisify(sys.epollWait.async) as (
    epfd: number,
    events: Buffer,
    max: number,
    timeout: number,
  ) => Promise<number>;
  let generations = 0;
  let closed = false;

  control(add, wake, interest.readable, 0);
  void loop();
  process.once('exit', close); // a thread that still waits would hold up the end of the process, for ever

  function close(): void {
    process.removeListener('exit', close);
    closed = true;
    const one = Buffer.alloc(8);
    one.writeUInt8(1, 0);
    sys.write(wake, one, 8);
  }

  function control(operation: number, fd: number, events: number, generation: number): void {
    const event = Buffer.alloc(eventBytes);
    event.writeUInt32LE(events, 0);
    event.writeInt32LE(fd, eventDataOffset);
    event.writeUInt32LE(generation, eventDataOffset + 4);
    check(sys.epollCtl(epoll, operation, fd, event), 'epoll_ctl', `waiting for descriptor ${fd}`);
  }

  async function loop(): Promise<void> {
    const events = Buffer.alloc(eventBytes * eventsAtOnce);
    while (!closed) {
      const count = await wait(epoll, events, eventsAtOnce, -1);
      for (let i = 0; i < count; i++) {
        const data = i * eventBytes + eventDataOffset;
        dispatch(
          events.readInt32LE(data),
          events.readUInt32LE(data + 4),
          events.readUInt32LE(i * eventBytes),
        );
      }
    }
    sys.close(wake);
    sys.close(epoll);
  }

  function dispatch(fd: number, generation: number, events: number): void {
    const entry = entries.get(fd);
    if (!entry || entry.generation !== generation) return;
    const due: (() => void)[] = [];
    for (const [direction, callback] of entry.wishes) {
      if ((events & (interest[direction] | endOrFailure)) === 0) continue;
      entry.wishes.delete(direction);
      due.push(callback);
    }
    arm(modify, fd, entry);
    for (const callback of due) callback();
  }

  function arm(operation: number, fd: number, { wishes, generation }: Entry): void {
    if (wishes.size === 0) {
      entries.delete(fd);
      control(remove, fd, 0, generation);
      return;
    }
    let events = oneShot;
    for (const direction of wishes.keys()) events |= interest[direction];
    control(operation, fd, events, generation);
  }

  return {
    once(fd, direction, callback) {
      const found = entries.get(fd);
      const entry = found ?? { generation: ++generations >>> 0, wishes: new Map() };
      if (entry.wishes.has(direction))
        throw new Error(`descriptor ${fd} is already waited for (${direction})`);
      entry.wishes.set(direction, callback);
      entries.set(fd, entry);
      try {
        arm(found ? modify : add, fd, entry);
      } catch (error) {
        entry.wishes.delete(direction);
        if (entry.wishes.size === 0) entries.delete(fd);
        throw error;
      }
      return () => {
        if (entries.get(fd) !== entry || entry.wishes.get(direction) !== callback) return;
        entry.wishes.delete(direction);
        arm(modify, fd, entry);
      };
    },
    close,
  };
}
