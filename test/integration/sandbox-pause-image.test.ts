// Pods whose pause container runs an image, as nodes have it that name a sandbox image in their configuration.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failureOf } from '../support/cri-client.ts';
import { layerOf, makeImage, makeTar } from '../support/image/make-image.ts';
import { pushImage, startRegistry, type TestRegistry } from '../support/image/registry.ts';
import { expectUnchanged, tracesAfterAPod, tracesOf } from '../support/leftovers.ts';
import { startNode, type TestNode, until, untilProgram } from '../support/node.ts';

let registry: TestRegistry;
beforeAll(async () => {
  registry = await startRegistry();
  const program = await makeTar([
    ...['bin', 'dev', 'proc', 'sys', 'etc'].map(name => ({ name, type: 'directory' as const, mode: 0o755 })),
    { name: 'bin/busybox', content: readFileSync('/bin/busybox'), mode: 0o755 },
  ]);
  const images = {
    pause: {
      Entrypoint: ['/bin/busybox', 'sleep'],
      Cmd: ['123456'],
      Env: ['PAUSE=yes'],
      User: '65535:65535',
    },
    brief: { Entrypoint: ['/bin/busybox', 'true'] },
    broken: { Entrypoint: ['/no/such/program'] },
  };
  for (const [name, config] of Object.entries(images)) {
    await pushImage(registry, name, 'v1', makeImage([layerOf(program)], { config }));
  }
});
afterAll(() => registry.stop());

/** Runs a test on a node that is configured with a sandbox image. */
async function withSandboxImage(reference: string, test: (node: TestNode) => Promise<void>): Promise<void> {
  const config = `[plugins."io.containerd.cri.v1.images".pinned_images]\n  sandbox = "${reference}"\n`;
  const node = await startNode({ config, busybox: false });
  try {
    await test(node);
  } finally {
    await node.destroy();
  }
}

describe('a node with a sandbox image', () => {
  it('pulls it for its first pod, and runs it as the pause of every pod', () =>
    withSandboxImage(`${registry.address}/pause:v1`, async node => {
      const before = await tracesAfterAPod(node);
      const { images } = await node.cri.ListImages();
      expect(images.map(({ repoTags, pinned }) => ({ repoTags, pinned }))).toEqual([
        { repoTags: [`${registry.address}/pause:v1`], pinned: true },
      ]);
      const pods = [await node.runPod(), await node.runPod()];
      for (const podSandboxId of pods) {
        const { info } = await node.cri.PodSandboxStatus({ podSandboxId, verbose: true });
        const { pid, image, runtimeSpec } = JSON.parse(info.info ?? '');
        expect(image).toBe(`${registry.address}/pause:v1`);
        await untilProgram(pid);
        expect((await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').slice(0, 3)).toEqual([
          '/bin/busybox',
          'sleep',
          '123456',
        ]);
        expect(await readFile(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\t65535\t/m);
        expect(runtimeSpec.process.env).toContain('PAUSE=yes');
        expect(runtimeSpec.annotations['io.kubernetes.cri.podsandbox.image-name']).toBe(image);
      }
      await node.removeAll();
      await expectUnchanged(node, before);
    }));

  it('that no registry has refuses pods, naming it and the way out', () =>
    withSandboxImage(`${registry.address}/nosuch:v1`, async node => {
      const before = await tracesOf(node);
      const { code, details } = await failureOf(node.runPod());
      expect(code).toBe(grpc.NOT_FOUND);
      for (const word of [`${registry.address}/nosuch:v1`, 'sandbox image', 'sandbox_image'])
        expect(details).toContain(word);
      await expectUnchanged(node, before);
    }));

  it('whose program cannot be run refuses pods and leaves nothing', () =>
    withSandboxImage(`${registry.address}/broken:v1`, async node => {
      await failureOf(node.runPod()); // makes the bridge and the parent cgroup
      const before = await tracesOf(node);
      const { code, details } = await failureOf(node.runPod());
      expect(code).toBe(grpc.UNKNOWN);
      expect(details).toMatch(/container [0-9a-f]{64}.*\/no\/such\/program/);
      await expectUnchanged(node, before);
    }));

  it('whose program does not stay gives no pod that is READY, and leaves nothing', () =>
    withSandboxImage(`${registry.address}/brief:v1`, async node => {
      const run = () =>
        node.runPod().catch(({ details }) => expect(details).toMatch(/container [0-9a-f]{64} ended/));
      await run();
      await node.removeAll();
      const before = await tracesOf(node);
      await run();
      await until('no pod is READY', async () => {
        const { items } = await node.cri.ListPodSandbox({ filter: { state: { state: 'SANDBOX_READY' } } });
        return items.length === 0 || undefined;
      });
      await node.removeAll();
      await expectUnchanged(node, before);
    }));
});
