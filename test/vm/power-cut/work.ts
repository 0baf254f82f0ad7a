// What goes on when the power fails: pods come and go, images are pulled and removed, several at a time.
import type { CriClient } from '../../support/cri-client.ts';
import { removeAll, runPod } from './pods.ts';

/** Works until the end of the process. What fails, fails because a step was made to hang. */
export async function work(cri: CriClient, images: readonly string[]): Promise<void> {
  const [first = '', second = ''] = images;
  await cri.PullImage({ image: { image: first } });
  const forever = async (act: (turn: number) => Promise<unknown>) => {
    for (let turn = 0; ; turn++)
      await act(turn).catch(error => console.log(`  ${String(error).slice(0, 200)}`));
  };
  const lifecycles = (worker: string) =>
    forever(async turn => {
      const name = `${worker}-${turn}`;
      const containerId = await runPod(cri, name, first, 'dd if=/dev/zero of=/x bs=64k count=16; sleep 1000');
      await cri.ExecSync({ containerId, cmd: ['sh', '-c', 'sync; echo in'], timeout: 60 });
      // Every other pod stays until the power fails.
      if (turn % 2 === 0) return;
      const { containers } = await cri.ListContainers({ filter: { id: containerId } });
      const podSandboxId = containers[0]?.podSandboxId ?? '';
      await cri.StopPodSandbox({ podSandboxId });
      await cri.RemovePodSandbox({ podSandboxId });
    });
  await Promise.all([
    lifecycles('a'),
    lifecycles('b'),
    forever(async () => {
      await cri.PullImage({ image: { image: second } });
      await cri.RemoveImage({ image: { image: second } });
    }),
  ]);
  await removeAll(cri);
}
