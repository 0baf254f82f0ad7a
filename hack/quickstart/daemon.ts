// The daemon of the walk: its process, a client of its socket, and the steps that it logs.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { type CriClient, connectCri } from '../../test/support/cri-client.ts';
import type { Cleanup } from './cleanup.ts';
import type { Places } from './places.ts';

export const criTs = fileURLToPath(new URL('../../bin/cri-ts', import.meta.url));

export const daemonLog = ({ directory }: Places): string => join(directory, 'daemon.log');

/** Stands in the environment of the daemon and of what it starts, so that none of them is overlooked. */
export const environmentMark = `CRI_TS_QUICKSTART=${process.pid}`;

/** A do or undo of a step, or a run of a plugin within one. Times in milliseconds, `began` since the epoch. */
export interface Span {
  name: string;
  /** Id of the sandbox or container. */
  subject: string;
  began: number;
  ms: number;
}

export interface RunningDaemon {
  cri: CriClient;
  /** What the walk calls its pods and containers, by id. */
  names: Map<string, string>;
  /** What was logged since the last call up to the end of an RPC that has just answered, in the order of the ends. */
  spansUntil(rpc: string): Promise<Span[]>;
}

/** Starts `cri-ts serve`; resolves when it answers. Owes its end. @throws with its log when it ends by itself */
export async function startDaemon(places: Places, cleanup: Cleanup): Promise<RunningDaemon> {
  const { flags, socket } = places;
  const logFile = daemonLog(places);
  const log = openSync(logFile, 'a');
  const [name = '', value] = environmentMark.split('=');
  const child = spawn(criTs, ['serve', '--log-level', 'debug', ...flags], {
    stdio: ['ignore', log, log],
    env: { ...process.env, [name]: value },
    detached: true, // Ctrl-C is for the walk, which needs the daemon to take things down
  });
  closeSync(log);
  const cri = connectCri(socket);
  cleanup.owe('daemon', async () => {
    cri.close();
    child.kill('SIGTERM');
    while (child.exitCode === null && child.signalCode === null) await sleep(10);
  });
  await untilServing(cri, child, logFile);
  let read = 0;
  return {
    cri,
    names: new Map(),
    async spansUntil(rpc) {
      // The daemon writes its log beside its work, so the lines may come a moment later than the answer.
      for (let tries = 0; tries < 100; tries++) {
        const lines = readFileSync(logFile, 'utf8').split('\n').slice(0, -1);
        const end = lines.findIndex((line, i) => i >= read && line.includes(`"rpc":"${rpc}"`));
        if (end === -1) {
          await sleep(5);
          continue;
        }
        const spans = lines.slice(read, end).flatMap(spanOf);
        read = end + 1;
        return spans;
      }
      return [];
    },
  };
}

async function untilServing(cri: CriClient, child: ChildProcess, logFile: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null || child.signalCode !== null) break;
    if (await cri.Version({}, { timeoutMs: 1000 }).catch(() => undefined)) return;
    await sleep(50);
  }
  child.kill('SIGKILL');
  throw new Error(`the daemon does not serve; its log ends so:\n${tailOf(logFile)}`);
}

function tailOf(file: string): string {
  return readFileSync(file, 'utf8').split('\n').slice(-15).join('\n');
}

const stepSchema = z.object({
  msg: z.enum(['step', 'step failed']),
  time: z.string(),
  operation: z.string(),
  subject: z.string(),
  step: z.string(),
  verb: z.enum(['do', 'undo']),
  ms: z.number(),
});
const pluginSchema = z.object({
  msg: z.literal('CNI plugin'),
  time: z.string(),
  sandbox: z.string().default(''),
  verb: z.string(),
  plugin: z.string(),
  ms: z.number(),
});

function spanOf(line: string): Span[] {
  if (!line.startsWith('{')) return [];
  const event: unknown = JSON.parse(line);
  const step = stepSchema.safeParse(event).data;
  if (step) {
    const name = step.verb === 'undo' ? `undo ${step.step}` : step.step;
    return [{ name, subject: step.subject, ms: step.ms, began: Date.parse(step.time) - step.ms }];
  }
  const run = pluginSchema.safeParse(event).data;
  if (!run) return [];
  const name = `  plugin ${run.plugin} ${run.verb}`;
  return [{ name, subject: run.sandbox, ms: run.ms, began: Date.parse(run.time) - run.ms }];
}
