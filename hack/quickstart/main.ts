// Runs the walk, and whatever happens to it, a signal included, takes away what it made. Started by hack/quickstart.sh.
import { existsSync, readFileSync } from 'node:fs';
import { messageOf } from '../../src/errors.ts';
import { createCleanup } from './cleanup.ts';
import { say } from './print.ts';
import { walk } from './walk.ts';

// Who pipes this into `head` must not keep it from cleaning up.
process.stdout.on('error', () => {});
const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => interrupted.abort(new Error(`interrupted by ${name}`)));
}
const began = performance.now();
const cleanup = createCleanup();
const failures: string[] = [];
const logs: string[] = [];
try {
  await Promise.race([walk(cleanup, logs, interrupted.signal), overdue(interrupted.signal)]);
} catch (error) {
  failures.push(messageOf(error));
  say(
    '',
    `quickstart failed: ${messageOf(error)}`,
    ...logs.flatMap(troubles),
    'taking away what it made ...',
  );
}
failures.push(...(await cleanup.run()));
const seconds = ((performance.now() - began) / 1000).toFixed(1);
if (failures.length > 0) {
  process.stderr.write(`\nquickstart failed after ${seconds} s:\n${failures.join('\n')}\n`);
  process.exit(1);
}
say('', `quickstart is done in ${seconds} s: everything worked, and nothing is left.`);
process.exit(0);

/** What the daemon logged that was not as it should be. */
function troubles(logFile: string): string[] {
  const lines = existsSync(logFile) ? readFileSync(logFile, 'utf8').split('\n') : [];
  return lines.filter(line => /"level":"(warn|error|fatal)"/.test(line)).slice(-10);
}

/** Rejects some time after an interruption, when the walk should have given up by itself: it does so between its acts. */
function overdue(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => setTimeout(reject, 10_000, signal.reason));
  });
}
