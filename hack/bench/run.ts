// The benchmark of docs/performance.md. Started by hack/bench/run, in namespaces of its own. Exit code 1 when a target is
// missed.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeFloor } from './suite/floor.ts';
import { crowds, eventLoopDelayMs, latencies, logThroughput, throughput } from './suite/measures.ts';
import { cgroupParent, logDirectory, podConfig, removeCgroups, takeDown } from './suite/pods.ts';
import { type Figures, judge, writeReport } from './suite/report.ts';
import { type Runtime, startRuntime } from './suite/runtimes.ts';

const docs = fileURLToPath(new URL('../../docs', import.meta.url));
const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '30' },
    pods: { type: 'string', default: '300' },
    out: { type: 'string', default: docs },
  },
});
const rounds = Number(options.rounds);
const pods = Number(options.pods);
const say = (line: string) => console.log(line);

const directory = mkdtempSync(join(tmpdir(), 'cri-ts-bench-'));
const running: Runtime[] = [];
const start = async (...args: Parameters<typeof startRuntime>) => {
  const runtime = await startRuntime(...args);
  running.push(runtime);
  return runtime;
};
try {
  const criTs = await start('criTs', directory);
  const containerd = await start('containerd', directory);
  const crun = await start('criTsCrun', directory).catch(error => {
    say(`crun does not take part: ${error}`);
    return undefined;
  });
  const pair = [criTs, containerd];
  const all = crun ? [...pair, crun] : pair;
  const floor = makeFloor(directory, await pauseSpec(criTs), cgroupParent);

  say(`one pod at a time, ${rounds} rounds ...`);
  const calls = await latencies(all, floor, rounds);
  const rates: Figures['rates'] = {};
  for (const inFlight of [1, 4, 16]) {
    say(`pods a second, ${inFlight} in flight ...`);
    rates[inFlight] = await throughput(pair, inFlight, inFlight === 1 ? 16 : 32, 4);
  }
  const eventLoopMs = await eventLoopDelayMs(criTs);
  say("one container's log ...");
  const logMbPerSecond = await logThroughput(pair, 3);
  say(`${pods} pods, started and kept ...`);
  const marks = [0, 100, pods].filter(mark => mark <= pods);
  const crowd = await crowds(pair, floor, pods, marks, say);
  say('taking all down ...');
  for (const runtime of running.toReversed()) await runtime.destroy();
  running.length = 0;

  const figures: Figures = { rounds, pods, calls, rates, eventLoopMs, logMbPerSecond, crowd };
  for (const line of writeReport(figures, options.out)) say(line);
  if (judge(figures).some(({ met }) => !met)) process.exitCode = 1;
} finally {
  for (const runtime of running.toReversed()) await runtime.destroy().catch(error => say(String(error)));
  for (const left of [directory, logDirectory]) rmSync(left, { recursive: true, force: true });
  removeCgroups();
}
process.exit(process.exitCode ?? 0); // the floor's host thread and reaper would go on

/** The OCI spec that cri-ts gives to the pause container of such a pod. */
async function pauseSpec(runtime: Runtime): Promise<unknown> {
  const { podSandboxId } = await runtime.cri.RunPodSandbox({ config: podConfig() });
  const { info } = await runtime.cri.PodSandboxStatus({ podSandboxId, verbose: true });
  await takeDown(runtime, podSandboxId);
  return JSON.parse(info.info ?? '{}').runtimeSpec;
}
