// Every libc function that Node has no API for, with its signature. The rest of src/host gives them meaning;
// nothing outside src/host imports this file. A call that fails throws a HostError made from errno.
import { constants } from 'node:os';
import koffi from 'koffi';
import { codeOf } from '../errors.ts';

const libc = koffi.load('libc.so.6');

// struct iovec, struct msghdr of recvmsg(2), as 64-bit Linux lays them out.
koffi.struct('iovec', { base: 'uint8_t *', length: 'size_t' });
koffi.struct('msghdr', {
  name: 'void *',
  nameLength: 'uint32_t',
  parts: 'iovec *',
  partCount: 'size_t',
  control: 'uint8_t *',
  controlLength: 'size_t',
  flags: 'int',
});

export const sys = {
  // mount(2), umount2(2)
  mount: libc.func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: libc.func('int umount2(const char *target, int flags)'),
  // namespaces: unshare(2), setns(2)
  unshare: libc.func('int unshare(int flags)'),
  setns: libc.func('int setns(int fd, int type)'),
  chdir: libc.func('int chdir(const char *path)'),
  // what stat(2) does not tell: statx(2)
  statx: libc.func(
    'int statx(int dirfd, const uint8_t *path, int flags, unsigned int mask, _Out_ uint8_t *result)',
  ),
  // processes: pidfd_open(2), pidfd_send_signal(2), waitid(2), prctl(2)
  pidfdOpen: libc.func('int pidfd_open(int pid, unsigned int flags)'),
  pidfdSendSignal: libc.func('int pidfd_send_signal(int pidfd, int signal, void *info, unsigned int flags)'),
  waitid: libc.func('int waitid(int idtype, int id, _Out_ uint8_t *info, int options)'),
  // posix_spawn(3); the structures are opaque. These return an errno, and do not set it.
  posixSpawn: libc.func(
    'int posix_spawn(_Out_ int *pid, const char *path, const uint8_t *actions, const uint8_t *attributes, const char **argv, const char **envp)',
  ),
  spawnActionsInit: libc.func('int posix_spawn_file_actions_init(uint8_t *actions)'),
  spawnActionsAddOpen: libc.func(
    'int posix_spawn_file_actions_addopen(uint8_t *actions, int fd, const char *path, int flags, unsigned int mode)',
  ),
  spawnActionsAddDup2: libc.func('int posix_spawn_file_actions_adddup2(uint8_t *actions, int fd, int place)'),
  spawnActionsAddChdir: libc.func(
    'int posix_spawn_file_actions_addchdir_np(uint8_t *actions, const char *path)',
  ),
  spawnActionsDestroy: libc.func('int posix_spawn_file_actions_destroy(uint8_t *actions)'),
  spawnAttributesInit: libc.func('int posix_spawnattr_init(uint8_t *attributes)'),
  spawnAttributesDestroy: libc.func('int posix_spawnattr_destroy(uint8_t *attributes)'),
  spawnAttributesSetSigdefault: libc.func(
    'int posix_spawnattr_setsigdefault(uint8_t *attributes, const uint8_t *signals)',
  ),
  spawnAttributesSetSigmask: libc.func(
    'int posix_spawnattr_setsigmask(uint8_t *attributes, const uint8_t *signals)',
  ),
  spawnAttributesSetFlags: libc.func('int posix_spawnattr_setflags(uint8_t *attributes, short flags)'),
  prctl: libc.func(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
  // memory: malloc_trim(3)
  mallocTrim: libc.func('int malloc_trim(size_t pad)'),
  // readiness: epoll(7), eventfd(2)
  epollCreate1: libc.func('int epoll_create1(int flags)'),
  epollCtl: libc.func('int epoll_ctl(int epfd, int op, int fd, uint8_t *event)'),
  epollWait: libc.func('int epoll_wait(int epfd, _Out_ uint8_t *events, int maxevents, int timeout)'),
  eventfd: libc.func('int eventfd(unsigned int initial, int flags)'),
  // sockets and files
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  bind: libc.func('int bind(int fd, const uint8_t *address, unsigned int length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  accept4: libc.func('int accept4(int fd, void *address, void *length, int flags)'),
  sendto: libc.func(
    'long sendto(int fd, const uint8_t *data, unsigned long length, int flags, const uint8_t *address, unsigned int addressLength)',
  ),
  connect: libc.func('int connect(int fd, const uint8_t *address, unsigned int length)'),
  getsockopt: libc.func(
    'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
  ),
  shutdown: libc.func('int shutdown(int fd, int how)'),
  recvmsg: libc.func('long recvmsg(int fd, _Inout_ msghdr *message, int flags)'),
  pipe2: libc.func('int pipe2(_Out_ int *ends, int flags)'),
  fcntl: libc.func('int fcntl(int fd, int command, long argument)'),
  read: libc.func('long read(int fd, _Out_ uint8_t *data, unsigned long count)'),
  ioctl: libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)'),
  flock: libc.func('int flock(int fd, int operation)'),
  fcntlLock: libc.func('fcntl', 'int', ['int', 'int', '_Inout_ uint8_t *']),
  write: libc.func('long write(int fd, const uint8_t *data, unsigned long count)'),
  close: libc.func('int close(int fd)'),
};

// Two names of one number (EAGAIN, EWOULDBLOCK): the first listed wins, so lists are read backwards.
const errnoNames = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, number]) => [number, name]),
);

/** A system call that failed: `code` is the errno name (`EBUSY`), `call` the call's name. */
export class HostError extends Error {
  readonly code: string;
  readonly call: string;

  constructor(call: string, code: string, what: string) {
    super(`${what}: ${call} failed with ${code}`);
    this.name = 'HostError';
    this.call = call;
    this.code = code;
  }
}

/** Throws a HostError when a call's result says that it failed; `what` is the sentence's beginning. */
export function check(result: number, call: string, what: string): number {
  if (result >= 0) return result;
  throw hostErrorOf(koffi.errno(), call, what);
}

/** The HostError of an errno number that came by another way than a call's result. */
export function hostErrorOf(errno: number, call: string, what: string): HostError {
  return new HostError(call, errnoNames.get(errno) ?? `errno ${errno}`, what);
}

/** Whether descriptors or memory had run out, so that the same call may succeed later. */
export function isShortage(thrown: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOSPC'].includes(codeOf(thrown) ?? '');
}
