// Where the worker's code is: beside this file when compiled; in a source checkout it is TypeScript, which Node
// 20 cannot load by itself, and is run through tsx.
import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** What a worker may hold of JavaScript objects: hostile input ends the job, not the daemon. */
export const heapFlags = ['--max-old-space-size=256', '--max-semi-space-size=8'];

/** Starts src/image/worker.ts as a process of its own, with a channel for messages. */
export function startWorker(): ChildProcess {
  const compiled = !import.meta.url.endsWith('.ts');
  const entry = fileURLToPath(new URL(compiled ? './worker.js' : './worker.ts', import.meta.url));
  const loader = compiled
    ? []
    : ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href];
  return fork(entry, [], {
    execArgv: [...heapFlags, ...loader],
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
}
