// What is measured, each measure over all runtimes by turns, so that what else the machine does hits all alike.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Floor } from './floor.ts';
import { timed } from './numbers.ts';
import { bringUp, type Call, calls, live, takeDown } from './pods.ts';
import type { Runtime } from './runtimes.ts';

/** Rest before each measurement, in which the kernel finishes what the one before left to it. */
const restMs = 100;

export type Say = (line: string) => void;

/** Values of each contestant, by its name. */
export type Values = Record<string, number[]>;
const add = (values: Values, name: string, value: number) => {
  values[name] ??= [];
  values[name].push(value);
};

/** Each call of a pod's life, one pod at a time; the floor's RunPodSandbox and StopPodSandbox among them. */
export async function latencies(
  runtimes: readonly Runtime[],
  floor: Floor,
  rounds: number,
): Promise<Record<Call | 'up', Values>> {
  const times = Object.fromEntries([...calls, 'up'].map(call => [call, {}])) as Record<Call | 'up', Values>;
  const warmUps = 3;
  for (let round = -warmUps; round < rounds; round++) {
    const turns = [
      async () => {
        const up = await floor.up();
        const { ms: down } = await timed(() => floor.down());
        if (round < 0) return;
        add(times.RunPodSandbox, 'floor', up);
        add(times.StopPodSandbox, 'floor', down);
      },
      ...runtimes.map(runtime => async () => {
        const life = await live(runtime);
        if (round < 0) return;
        for (const call of calls) add(times[call], runtime.name, life[call]);
        add(times.up, runtime.name, life.RunPodSandbox + life.CreateContainer + life.StartContainer);
      }),
    ];
    const first = ((round % turns.length) + turns.length) % turns.length;
    for (const turn of [...turns.slice(first), ...turns.slice(0, first)]) {
      await sleep(restMs);
      await turn();
    }
  }
  return times;
}

/** Pods brought up in a second (RunPodSandbox, CreateContainer, StartContainer), so many in flight. Also CPU seconds a life. */
export async function throughput(
  runtimes: readonly Runtime[],
  inFlight: number,
  pods: number,
  rounds: number,
): Promise<{ podsPerSecond: Values; cpuSecondsPerLife: Values }> {
  const result = { podsPerSecond: {} as Values, cpuSecondsPerLife: {} as Values };
  for (let round = 0; round < rounds; round++) {
    for (const runtime of round % 2 === 0 ? runtimes : runtimes.toReversed()) {
      const cpu = runtime.group.cpuSeconds();
      const up: string[] = [];
      let begun = 0;
      const { ms } = await timed(() =>
        side(inFlight, async () => {
          while (begun < pods) {
            begun++;
            up.push((await bringUp(runtime)).pod);
          }
        }),
      );
      add(result.podsPerSecond, runtime.name, (pods / ms) * 1000);
      await side(inFlight, async () => {
        for (let pod = up.pop(); pod; pod = up.pop()) await takeDown(runtime, pod);
      });
      add(result.cpuSecondsPerLife, runtime.name, (runtime.group.cpuSeconds() - cpu) / pods);
      await sleep(restMs);
    }
  }
  return result;
}

async function side(count: number, worker: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, worker));
}

/** What a runtime is like with so many pods running. */
export interface Crowd {
  pods: number;
  memoryMb: number;
  processes: { program: string; count: number; mb: number }[];
  /** Milliseconds: ListPodSandbox, ListContainers, Status, ListContainerStats. */
  answers: Record<string, number[]>;
  /** Share of a core, in percent, with ListPodSandbox and ListContainers asked each second, and without. */
  idleCpu?: { polled: number; alone: number };
}

export interface CrowdResult {
  /** Milliseconds of each pod's RunPodSandbox + CreateContainer + StartContainer, in the order of their start. */
  starts: number[];
  crowds: Crowd[];
  /** Milliseconds from the program's start to its first answer, with all pods on disk and running. */
  restarts: number[];
  /** Milliseconds of the floor's pod, before there are any others and beside all of them. */
  floor: { alone: number[]; amidAll: number[] };
}

/**
 * Starts pods one after the other, stops at the marks to look, restarts the daemon in the end, and takes the pods away: for one
 * runtime after the other, since the firewall rules and bridge ports of all pods there are slow every plugin. How much they slow
 * the floor is measured beside.
 */
export async function crowds(
  runtimes: readonly Runtime[],
  floor: Floor,
  pods: number,
  marks: readonly number[],
  say: Say,
): Promise<Record<string, CrowdResult>> {
  const results: Record<string, CrowdResult> = {};
  for (const runtime of runtimes) {
    const result: CrowdResult = {
      starts: [],
      crowds: [],
      restarts: [],
      floor: { alone: await floorTimes(floor), amidAll: [] },
    };
    results[runtime.name] = result;
    const up: string[] = [];
    for (let count = 0; count <= pods; count++) {
      if (marks.includes(count)) result.crowds.push(await look(runtime, count, count === 100));
      if (count % 50 === 0) say(`  ${runtime.name}: ${count} of ${pods} pods`);
      if (count === pods) break;
      const { ms, result: started } = await timed(() => bringUp(runtime));
      result.starts.push(ms);
      up.push(started.pod);
    }
    result.floor.amidAll = await floorTimes(floor);
    for (let round = 0; round < 5; round++) {
      await runtime.stop();
      result.restarts.push(await runtime.start());
      await sleep(1000);
    }
    await side(4, async () => {
      for (let pod = up.pop(); pod; pod = up.pop()) await takeDown(runtime, pod);
    });
  }
  return results;
}

async function floorTimes(floor: Floor): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < 10; round++) {
    await sleep(restMs);
    times.push(await floor.up());
    await floor.down();
  }
  return times;
}

async function look(runtime: Runtime, pods: number, withIdleCpu: boolean): Promise<Crowd> {
  const { cri, group } = runtime;
  await sleep(2000);
  const crowd: Crowd = {
    pods,
    memoryMb: group.pssMb(),
    processes: group.pssByProgram().slice(0, 5),
    answers: {
      ListPodSandbox: await answers(() => cri.ListPodSandbox()),
      ListContainers: await answers(() => cri.ListContainers()),
      Status: await answers(() => cri.Status()),
      ListContainerStats: await answers(() => cri.ListContainerStats()),
    },
  };
  if (!withIdleCpu) return crowd;
  const seconds = 20;
  const alone = await cpuShare(group, () => sleep(seconds * 1000));
  const polled = await cpuShare(group, async () => {
    for (let second = 0; second < seconds; second++) {
      await Promise.all([cri.ListPodSandbox(), cri.ListContainers(), sleep(1000)]);
    }
  });
  return { ...crowd, idleCpu: { polled, alone } };
}

async function cpuShare(group: Runtime['group'], act: () => Promise<unknown>): Promise<number> {
  const before = group.cpuSeconds();
  const { ms } = await timed(act);
  return ((group.cpuSeconds() - before) / (ms / 1000)) * 100;
}

async function answers(ask: () => Promise<unknown>): Promise<number[]> {
  for (let i = 0; i < 3; i++) await ask();
  const times: number[] = [];
  for (let i = 0; i < 20; i++) times.push((await timed(ask)).ms);
  return times;
}

/** MB a second that one container's output flows into its log. */
export async function logThroughput(runtimes: readonly Runtime[], rounds: number): Promise<Values> {
  const megabytes = 64;
  const values: Values = {};
  for (let round = 0; round < rounds; round++) {
    for (const runtime of runtimes) {
      const line = 'a line of a log, of about as many bytes as lines of logs have';
      const command = ['sh', '-c', `yes "${line}" | head -c ${megabytes << 20}`];
      const { ms, result } = await timed(async () => {
        const { pod, container } = await bringUp(runtime, command);
        for (;;) {
          const { status } = await runtime.cri.ContainerStatus({ containerId: container });
          if (status?.state === 'CONTAINER_EXITED') return pod;
          await sleep(10);
        }
      });
      add(values, runtime.name, megabytes / (ms / 1000));
      await takeDown(runtime, result);
    }
  }
  return values;
}

/** The p99 delay of the event loop that the daemon's own metrics tell, in milliseconds. */
export async function eventLoopDelayMs({ metrics }: Runtime): Promise<number> {
  const text = await (await fetch(`http://${metrics}/v1/metrics`)).text();
  return Number(/^nodejs_eventloop_lag_p99_seconds ([0-9.e+-]+)$/m.exec(text)?.[1] ?? Number.NaN) * 1000;
}
