// RunPodSandbox beside its floor, by turns in one run: what the two are is in suite/floor.ts and suite/runtimes.ts.
// Started by hack/bench/floor; exits with 1 when the ratio of the medians is above the target.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { makeFloor } from './suite/floor.ts';
import { median, quantile, timed } from './suite/numbers.ts';
import { cgroupParent, logDirectory, podConfig, removeCgroups, takeDown } from './suite/pods.ts';
import { type Runtime, startRuntime } from './suite/runtimes.ts';

const target = 1.5;
const warmUps = 4;
/** Milliseconds of rest before each measurement, in which the kernel finishes what the one before left to it. */
const restMs = 100;

const infoSchema = z.object({
  runtimeSpec: z.record(z.string(), z.unknown()),
  steps: z.record(z.string(), z.object({ ms: z.number() })),
});

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '40' }, json: { type: 'string' } },
  });
  const rounds = Number(values.rounds);
  const directory = mkdtempSync(join(tmpdir(), 'cri-ts-floor-'));
  const runtime = await startRuntime('criTs', directory);
  try {
    const steps: Record<string, number[]> = {};
    const criTs = contestant(runtime, steps);
    await criTs.up();
    const floor = makeFloor(directory, (await criTs.info()).runtimeSpec, cgroupParent);
    await criTs.down();
    const times = { floor: [] as number[], criTs: [] as number[] };
    for (let round = -warmUps; round < rounds; round++) {
      const pair = [
        { turn: floor, into: times.floor },
        { turn: criTs, into: times.criTs },
      ];
      for (const { turn, into } of round % 2 === 0 ? pair : pair.toReversed()) {
        await sleep(restMs);
        const ms = await turn.up();
        await turn.down();
        if (round >= 0) into.push(ms);
      }
      if (round === -1) for (const list of Object.values(steps)) list.length = 0;
    }
    const ratio = median(times.criTs) / median(times.floor);
    report(rounds, times, steps, ratio);
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify({ rounds, target, ratio, ...times, steps }, null, 2)}\n`);
    }
    if (ratio > target) process.exitCode = 1;
  } finally {
    await runtime.destroy();
    for (const left of [directory, logDirectory]) rmSync(left, { recursive: true, force: true });
    removeCgroups();
  }
}

function contestant({ cri }: Runtime, steps: Record<string, number[]>) {
  let podSandboxId = '';
  const info = async () => {
    const status = await cri.PodSandboxStatus({ podSandboxId, verbose: true });
    return infoSchema.parse(JSON.parse(status.info.info ?? '{}'));
  };
  return {
    info,
    async up() {
      const config = podConfig();
      const { ms, result } = await timed(() => cri.RunPodSandbox({ config }));
      ({ podSandboxId } = result);
      return ms;
    },
    async down() {
      for (const [name, { ms }] of Object.entries((await info()).steps)) {
        steps[name] ??= [];
        steps[name].push(ms);
      }
      await takeDown({ cri }, podSandboxId);
    },
  };
}

function report(
  rounds: number,
  times: { floor: number[]; criTs: number[] },
  steps: Record<string, number[]>,
  ratio: number,
): void {
  const row = (name: string, list: readonly number[]) =>
    console.log(name.padEnd(34) + [0, 0.5, 0.95].map(q => quantile(list, q).toFixed(2).padStart(9)).join(''));
  console.log(
    `${rounds} rounds on ${cpus().length} CPUs, Linux ${release()}, node ${process.version}; milliseconds`,
  );
  console.log(`${' '.repeat(34)}${['best', 'median', 'p95'].map(word => word.padStart(9)).join('')}`);
  row('floor: netns, then chain | pause', times.floor);
  row('RunPodSandbox, at its client', times.criTs);
  console.log(`ratio of the medians: ${ratio.toFixed(2)} (at most ${target} is the target)\n`);
  console.log('steps of RunPodSandbox:');
  for (const [name, list] of Object.entries(steps)) row(`  ${name}`, list);
}

await main();
process.exit(process.exitCode ?? 0); // the host thread and the reaper would go on
