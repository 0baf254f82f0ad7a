// What a daemon tells systemd (sd_notify(3)): that it serves, that it ends, that it is alive. Messages are datagrams to
// the unix socket that NOTIFY_SOCKET names; without one, nobody wants to know.
import { check, sys } from './libc.ts';

const [addressFamilyUnix, datagram] = [1, 2]; // AF_UNIX, SOCK_DGRAM
const closeOnExec = 0o2000000; // SOCK_CLOEXEC
const watchdogShare = 2; // keep-alives come twice in each watchdog period, as sd_watchdog_enabled(3) advises

export interface ServiceManager {
  /** The daemon serves. From now on the watchdog, if there is one, is fed as long as the event loop turns. */
  ready(): void;
  /** The daemon is about to end. */
  stopping(): void;
}

/** @param environment has NOTIFY_SOCKET and WATCHDOG_USEC, as systemd sets them */
export function serviceManager(environment: Readonly<Record<string, string | undefined>>): ServiceManager {
  const address = environment.NOTIFY_SOCKET;
  if (!address) return { ready() {}, stopping() {} };
  const watchdogMs = Number(environment.WATCHDOG_USEC ?? 0) / 1000;
  let timer: NodeJS.Timeout | undefined;
  return {
    ready() {
      notify(address, 'READY=1');
      if (watchdogMs > 0) timer = setInterval(feed, watchdogMs / watchdogShare, address).unref();
    },
    stopping() {
      clearInterval(timer);
      notify(address, 'STOPPING=1');
    },
  };
}

/** What cannot be told now, for want of a descriptor say, is told the next time: the watchdog decides how long that may go on. */
function feed(address: string): void {
  try {
    notify(address, 'WATCHDOG=1');
  } catch {
    // the daemon lives, though it could not say so
  }
}

/** @throws HostError naming the socket */
function notify(path: string, message: string): void {
  const what = `telling ${message} to ${path}`;
  const fd = check(sys.socket(addressFamilyUnix, datagram | closeOnExec, 0), 'socket', what);
  try {
    // struct sockaddr_un; a leading @ stands for the NUL of the abstract namespace
    const name = Buffer.from(path.replace(/^@/, '\0'));
    const address = Buffer.concat([Buffer.from([addressFamilyUnix, 0]), name]);
    const data = Buffer.from(message);
    check(sys.sendto(fd, data, data.length, 0, address, address.length), 'sendto', what);
  } finally {
    sys.close(fd);
  }
}
