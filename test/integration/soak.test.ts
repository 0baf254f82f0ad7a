// Soak: random lifecycle operations on several pods at a time, over the real plugins, with the daemon killed every few
// seconds; and whole lifecycles without kills, after which memory and descriptors are what they were. hack/soak runs the
// long form. Each pod has one client, which knows what state its pod must be in: no answer may contradict it.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RpcError } from '../support/cri-client.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { createFuzz } from '../support/fuzz.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

const podsAtATime = 8;
const soakSeconds = Number(process.env.SOAK_SECONDS ?? 8);
const lifecycles = Number(process.env.SOAK_LIFECYCLES ?? 24);
const { seed, pick, chance, below } = createFuzz();

let node: TestNode;
let before: Everything;
beforeAll(async () => {
  node = await startNode();
  before = await afterOnePod(node);
});
afterAll(() => node.destroy());

/** States of a client's pod and containers by id; of an exited container the exit code too. */
type Model = Map<string, string>;

/** Answers that say nothing of the request: the daemon was killed. */
const isKilled = (error: unknown) =>
  [status.UNAVAILABLE, status.CANCELLED].includes((error as RpcError).code) &&
  /No connection|Connection dropped|ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|Call cancelled|goaway|stream/i.test(
    String(error),
  );

let serving: Promise<void> = Promise.resolve();
const counts = { operations: 0, interrupted: 0, kills: 0 };

async function killNow(): Promise<void> {
  serving = (async () => {
    await node.kill();
    await node.start();
  })();
  counts.kills++;
  await serving;
}

const exitCode = 7;
const script = `trap 'exit ${exitCode}' TERM; touch /ready; sleep 1000 & wait`;
const isPod = (state: string) => state.startsWith('SANDBOX');
const ready = 'SANDBOX_READY';
const notReady = 'SANDBOX_NOTREADY';
const created = 'CONTAINER_CREATED';
const running = 'CONTAINER_RUNNING';
const exited = (code: number) => `CONTAINER_EXITED ${code}`;
const anyExit = /^CONTAINER_EXITED /;

/** One client with one pod at a time. */
function createClient(name: string) {
  let model: Model = new Map();
  let made = 0;
  const labels = { client: name };
  const labelSelector = labels;

  async function observe(): Promise<Model> {
    for (;;) {
      await serving;
      try {
        const seen: Model = new Map();
        const pods = await node.cri.ListPodSandbox({ filter: { labelSelector } });
        for (const { id, state } of pods.items) seen.set(id, state);
        const containers = await node.cri.ListContainers({ filter: { labelSelector } });
        for (const { id, state } of containers.containers) {
          const code = state === 'CONTAINER_EXITED' ? ` ${(await node.status(id)).exitCode}` : '';
          seen.set(id, `${state}${code}`);
        }
        return seen;
      } catch (error) {
        if (!isKilled(error)) throw error;
        await sleep(20);
      }
    }
  }

  /** What the operation may leave when it was broken off: of each object that it touches, states that are possible. */
  interface Operation {
    what: string;
    call(): Promise<unknown>;
    /** Ids that it may change. */
    touches: readonly string[];
    /** May it have made something? */
    makes?: boolean;
    /** How the model is after a success. */
    done(answer: unknown): void;
  }

  async function perform({ what, call, touches, makes, done }: Operation): Promise<void> {
    await serving;
    counts.operations++;
    try {
      done(await call());
    } catch (error) {
      if (!isKilled(error)) throw new Error(`${what} of ${name}: ${error}`);
      counts.interrupted++;
      const seen = await observe();
      for (const [id, state] of model) {
        if (!touches.includes(id)) expect([what, id, seen.get(id)]).toEqual([what, id, state]);
      }
      for (const id of seen.keys()) if (!makes) expect([what, model.has(id)]).toEqual([what, true]);
      model = seen;
      return;
    }
    if (chance(0.5)) expect([what, await observe()]).toEqual([what, model]);
  }

  function next(): Operation {
    const pod = [...model].find(([, state]) => isPod(state));
    if (!pod) {
      return {
        what: 'RunPodSandbox',
        makes: true,
        touches: [],
        call: () => node.runPod({ labels, metadata: { name: `${name}-${made++}` } }),
        done: id => void model.set(String(id), ready),
      };
    }
    const [podId, podState] = pod;
    const containers = [...model].filter(([, state]) => !isPod(state));
    const all = [...model.keys()];
    const stopPod: Operation = {
      what: 'StopPodSandbox',
      touches: all,
      call: () => node.cri.StopPodSandbox({ podSandboxId: podId }),
      done() {
        model.set(podId, notReady);
        for (const [id, state] of containers) if (state === running) model.set(id, exited(137));
      },
    };
    const removePod: Operation = {
      what: 'RemovePodSandbox',
      touches: all,
      call: () => node.cri.RemovePodSandbox({ podSandboxId: podId }),
      done: () => model.clear(),
    };
    if (podState === notReady) return pick([stopPod, removePod]);
    const create: Operation = {
      what: 'CreateContainer',
      makes: true,
      touches: [],
      call: () => node.createContainer(podId, script, { labels, metadata: { name: `c${made++}` } }),
      done: id => void model.set(String(id), created),
    };
    if (containers.length === 0) return pick([create, create, create, stopPod, removePod]);
    const [id, state] = pick(containers);
    const remove: Operation = {
      what: 'RemoveContainer',
      touches: [id],
      call: () => node.cri.RemoveContainer({ containerId: id }),
      done: () => void model.delete(id),
    };
    if (state === created) {
      const start: Operation = {
        what: 'StartContainer',
        touches: [id],
        call: () => node.cri.StartContainer({ containerId: id }),
        done: () => void model.set(id, running),
      };
      return pick([start, start, start, remove]);
    }
    if (anyExit.test(state)) return pick([remove, remove, ...(containers.length < 3 ? [create] : [])]);
    const exec: Operation = {
      what: 'ExecSync',
      touches: [],
      call: () => node.exec(id, 'while [ ! -e /ready ]; do sleep 0.02; done; echo here'),
      done: text => expect(text).toBe('here'),
    };
    const stop: Operation = {
      what: 'StopContainer',
      touches: [id],
      async call() {
        await exec.call(); // it listens to the signal from now on
        await node.cri.StopContainer({ containerId: id, timeout: 60 });
      },
      done: () => void model.set(id, exited(exitCode)),
    };
    return pick([exec, exec, stop, stop, remove, stopPod, ...(containers.length < 3 ? [create] : [])]);
  }

  return { step: () => perform(next()) };
}

/** The daemon's memory, shared pages by their share, in MiB; and its open descriptors. */
function measure() {
  const rollup = readFileSync(`/proc/${node.pid()}/smaps_rollup`, 'latin1');
  return {
    pss: Number(/^Pss:\s*(\d+)/m.exec(rollup)?.[1]) / 1024,
    descriptors: readdirSync(`/proc/${node.pid()}/fd`).length,
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

describe(`with seed ${seed}`, () => {
  it('random operations with a daemon that is killed again and again: no wrong answer, and nothing is left', {
    timeout: 7_200_000,
  }, async () => {
    const end = Date.now() + soakSeconds * 1000;
    const clients = Array.from({ length: podsAtATime }, (_, i) => createClient(`client-${i}`));
    const work = clients.map(async ({ step }) => {
      while (Date.now() < end) await step();
    });
    const killing = (async () => {
      while (Date.now() < end) {
        await sleep(1000 + below(4000));
        await killNow();
      }
    })();
    const results = await Promise.allSettled([...work, killing]);
    await serving;
    console.log(`soak: ${JSON.stringify(counts)}, seed ${seed}`);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    // A soak that does nothing finds nothing: kills come every 5 seconds at the most, and a machine that is very slow and busy
    // takes as long for one operation of each client, and to start again.
    expect(counts.kills).toBeGreaterThanOrEqual(Math.max(1, Math.floor(soakSeconds / 20)));
    expect(counts.operations).toBeGreaterThanOrEqual(podsAtATime * Math.max(1, Math.floor(soakSeconds / 10)));
    expect(await node.log()).not.toContain('set aside'); // no kill damages the store
    await untilAsBefore(node, before);
  });

  it('whole lifecycles leave nothing, and memory and descriptors as they were', {
    timeout: 7_200_000,
  }, async () => {
    await node.stop();
    await node.start();
    const samples: ReturnType<typeof measure>[] = [];
    let begun = 0;
    const one = async () => {
      const pod = await node.runPod();
      const id = await node.runContainer(pod, 'exec sleep 1000');
      expect(await node.exec(id, 'echo here')).toBe('here');
      await node.cri.StopContainer({ containerId: id, timeout: 0 });
      expect((await node.status(id)).exitCode).toBe(137);
      await node.cri.RemoveContainer({ containerId: id });
      await node.cri.StopPodSandbox({ podSandboxId: pod });
      await node.cri.RemovePodSandbox({ podSandboxId: pod });
    };
    const work = Array.from({ length: podsAtATime }, async () => {
      while (begun < lifecycles) {
        begun++;
        await one();
        samples.push(measure());
      }
    });
    await Promise.all(work);
    const quarter = Math.floor(samples.length / 4);
    const [first, last] = [samples.slice(0, quarter), samples.slice(-quarter)].map(part => ({
      pss: median(part.map(({ pss }) => pss)),
      descriptors: median(part.map(({ descriptors }) => descriptors)),
    })) as [ReturnType<typeof measure>, ReturnType<typeof measure>];
    expect(samples.length).toBeGreaterThanOrEqual(lifecycles);
    console.log(
      `${samples.length} lifecycles: first quarter ${JSON.stringify(first)}, last ${JSON.stringify(last)}`,
    );
    // Few lifecycles are all first ones, in which the engine compiles and its heap finds its size.
    expect(last.pss - first.pss).toBeLessThan(lifecycles < 500 ? 40 : first.pss * 0.1);
    expect(last.descriptors - first.descriptors).toBeLessThan(podsAtATime);
    await untilAsBefore(node, before);
    const fewest = Math.min(...samples.map(({ descriptors }) => descriptors));
    await until('descriptors are given back', () => measure().descriptors <= fewest || undefined);
  });
});
