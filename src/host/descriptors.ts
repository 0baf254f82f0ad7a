// Descriptors of the daemon that are nobody else's. Node opens its own so that children do not get them; what libraries
// open (LMDB its data file), and what the daemon was itself started with, would go to every runtime, monitor and plugin.
import { readdirSync } from 'node:fs';
import { sys } from './libc.ts';

// fcntl(2)
const setFlags = 2; // F_SETFD
const closeOnExec = 1; // FD_CLOEXEC

/** Keeps every descriptor that is open now, but standard input, output and error output, from children. */
export function keepDescriptorsFromChildren(): void {
  for (const name of readdirSync('/proc/self/fd')) {
    // One that was closed meanwhile, as that of the directory itself, fails: it goes to nobody.
    if (Number(name) > 2) sys.fcntl(Number(name), setFlags, closeOnExec);
  }
}
