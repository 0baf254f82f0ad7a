// What goes on when the power fails: pods come and go, images are pulled and removed, several at a time.
import type { CriClient } from '../../support/cri-client.ts';
import { runPod } from './pods.ts';

/**
 * Works until the end of the process; resolves when all of it is under way: the image of the pods is there, and the first
 * pods are up. What fails then, fails because a step was made to hang.
 */
export async function startWork(cri: CriClient, images: readonly string[]): Promise<void> {
  const [first = '', second = ''] = images;
  await cri.PullImage({ image: { image: first } });
  const forever = async (act: (turn: number) => Promise<unknown>) => {
    for (let turn = 1; ; turn++)
      await act(turn).catch(error => console.log(`  ${String(error).slice(0, 200)}`));
  };
  const lifecycle = async (name: string, stays: boolean) => {
    const containerId = await runPod(cri, name, first, 'dd if=/dev/zero of=/x bs=64k count=16; sleep 1000');
    await cri.ExecSync({ containerId, cmd: ['sh', '-c', 'sync; echo in'], timeout: 60 });
    if (stays) return;
    const { containers } = await cri.ListContainers({ filter: { id: containerId } });
    const podSandboxId = containers[0]?.podSandboxId ?? '';
    await cri.StopPodSandbox({ podSandboxId });
    await cri.RemovePodSandbox({ podSandboxId });
  };
  const workers = ['a', 'b'];
  await Promise.all(workers.map(worker => lifecycle(`${worker}-0`, true)));
  // Every other pod stays until the power fails.
  for (const worker of workers) void forever(turn => lifecycle(`${worker}-${turn}`, turn % 2 === 0));
  void forever(async () => {
    await cri.PullImage({ image: { image: second } });
    await cri.RemoveImage({ image: { image: second } });
  });
}
