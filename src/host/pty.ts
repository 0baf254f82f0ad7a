// Terminals of commands in containers: the OCI runtime makes the pty inside the container and passes its master to us.
import { check, sys } from './libc.ts';

const setWindowSize = 0x5414; // TIOCSWINSZ

/** In character cells. */
export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

/** Sets the size of the terminal whose master is `fd`; its foreground programs get SIGWINCH. @throws HostError */
export function resizeTerminal(fd: number, { width, height }: TerminalSize): void {
  const size = Buffer.alloc(8); // struct winsize: rows, columns, and two sizes in pixels
  size.writeUInt16LE(height, 0);
  size.writeUInt16LE(width, 2);
  check(sys.ioctl(fd, setWindowSize, size), 'ioctl TIOCSWINSZ', `resizing a terminal to ${width}x${height}`);
}
