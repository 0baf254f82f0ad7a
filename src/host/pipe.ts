// Pipes for a child's stdio. node:child_process would give socket pairs, and a program in a container may open
// /dev/stdout, which the kernel refuses on a socket.
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { check, sys } from './libc.ts';

const closeOnExec = 0o2000000; // O_CLOEXEC

/** A pipe into a child: it reads `childFd`, we write the stream. */
export interface PipeIn {
  readonly childFd: number;
  readonly stream: Socket;
}

/** A pipe out of a child: it writes `childFd`, we read the stream. */
export type PipeOut = PipeIn;

/** Close `childFd` with closeChildEnds once the child has it. @throws HostError when descriptors have run out */
export function pipeIntoChild(): PipeIn {
  const [childFd, ours] = makePipe();
  return { childFd, stream: new Socket({ fd: ours, readable: false, writable: true }) };
}

/** As pipeIntoChild, the other way. */
export function pipeOutOfChild(): PipeOut {
  const [ours, childFd] = makePipe();
  return { childFd, stream: new Socket({ fd: ours, readable: true, writable: false }) };
}

/** What is made of the makers, each in its place. */
type Made<T> = { [K in keyof T]: T[K] extends () => PipeIn ? PipeIn : PipeIn | undefined };

/** Makes every pipe that is asked for, or none. @throws HostError when descriptors have run out */
export function makePipes<const T extends readonly ((() => PipeIn) | undefined)[]>(makers: T): Made<T> {
  const made: (PipeIn | undefined)[] = [];
  try {
    for (const make of makers) made.push(make?.());
  } catch (error) {
    for (const pipe of made) pipe?.stream.destroy();
    closeChildEnds(made);
    throw error;
  }
  return made as unknown as Made<T>;
}

export function closeChildEnds(pipes: readonly (PipeIn | undefined)[]): void {
  for (const pipe of pipes) if (pipe) closeSync(pipe.childFd);
}

function makePipe(): [readEnd: number, writeEnd: number] {
  const ends = new Int32Array(2);
  check(sys.pipe2(ends, closeOnExec), 'pipe2', 'making a pipe for a command');
  return [ends[0] ?? -1, ends[1] ?? -1];
}
