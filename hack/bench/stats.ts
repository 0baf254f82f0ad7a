// Measures the answers to statistics and metrics RPCs with many containers running, ten in a pod, as kubelet and a
// Prometheus server would ask: alone, one after the other, over the socket.
import { readFileSync } from 'node:fs';
import { startNode, type TestNode } from '../../test/support/node.ts';

const containers = Number(process.env.CONTAINERS ?? 100);
const rounds = Number(process.env.ROUNDS ?? 50);
const containersInPod = 10;

const node = await startNode();
try {
  await runContainers(node);
  const measured: [string, () => Promise<unknown>][] = [
    ['ListContainerStats', () => node.cri.ListContainerStats()],
    ['ListPodSandboxStats', () => node.cri.ListPodSandboxStats()],
    ['ListPodSandboxMetrics', () => node.cri.ListPodSandboxMetrics()],
    ['ListContainers (for scale)', () => node.cri.ListContainers()],
  ];
  console.log(
    `${containers} containers in ${Math.ceil(containers / containersInPod)} pods, ${rounds} rounds, ms`,
  );
  console.log(
    `${'RPC'.padEnd(28)}${['min', 'p50', 'p90', 'max', 'cpu'].map(word => word.padStart(8)).join('')}`,
  );
  for (const [name, ask] of measured) {
    const before = cpuMs(node.pid());
    const times = await time(ask);
    print(name, times, (cpuMs(node.pid()) - before) / times.length);
  }
} finally {
  await node.destroy();
}

async function runContainers({ runPod, runContainer }: TestNode): Promise<void> {
  for (let made = 0; made < containers; made += containersInPod) {
    const pod = await runPod();
    const count = Math.min(containersInPod, containers - made);
    const labels = { 'io.kubernetes.container.name': 'bench', 'io.kubernetes.pod.name': `pod-${made}` };
    await Promise.all(Array.from({ length: count }, () => runContainer(pod, 'sleep 100000', { labels })));
  }
}

async function time(ask: () => Promise<unknown>): Promise<number[]> {
  for (let i = 0; i < 5; i++) await ask(); // the compiler warms up
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    await ask();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b);
}

/** CPU time of a process so far, which other work on the machine disturbs less (proc_pid_stat(5); 100 ticks a second). */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** @param cpu the daemon's CPU time for each round */
function print(name: string, times: readonly number[], cpu: number): void {
  const at = (share: number) =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
  const columns = [at(0), at(0.5), at(0.9), at(1), cpu].map(ms => ms.toFixed(1).padStart(8));
  console.log(`${name.padEnd(28)}${columns.join('')}`);
}
