import { describe, expect, it } from 'vitest';
import type { Invoker } from '../../../src/cni-invoker/index.ts';
import { silentLogger } from '../../../src/log.ts';
import { collectNetworkGarbage, type NetworkGarbage } from '../../../src/sandbox/garbage.ts';

/** Collects with an invoker that notes what it is told to keep. */
async function collect(over: Partial<NetworkGarbage>) {
  const told: { networks: number; valid: unknown }[] = [];
  const invoker = {
    attachmentIds: async () => ({
      ids: [
        { containerId: 'known', ifName: 'eth0' },
        { containerId: 'forgotten', ifName: 'eth0' },
      ],
      damaged: [],
    }),
    async gcAll(networks: readonly unknown[], valid: () => Promise<unknown>) {
      told.push({ networks: networks.length, valid: await valid() });
    },
  } as unknown as Invoker;
  const network = { network: { name: 'pods', plugins: [] } } as unknown as NetworkGarbage['networks'][number];
  await collectNetworkGarbage(
    {
      invoker,
      networks: [network],
      sandboxes: () => [{ id: 'known', network: null }] as unknown as ReturnType<NetworkGarbage['sandboxes']>,
      otherRuntimes: async () => [],
      log: silentLogger(),
      ...over,
    },
    new AbortController().signal,
  );
  return told;
}

describe('collecting garbage of the networks', () => {
  it('keeps the attachments of every sandbox there is, whatever its state', async () => {
    const [{ networks, valid } = { networks: 0, valid: [] }] = await collect({});
    expect(networks).toBe(1);
    expect(valid).toEqual([{ containerId: 'known', ifName: 'eth0' }]);
  });

  it('keeps what a sandbox has on record though its CNI record is lost', async () => {
    const pod = { id: 'other', network: { attachments: [{ ifName: 'eth0' }] } };
    const sandboxes = () => [pod] as unknown as ReturnType<NetworkGarbage['sandboxes']>;
    const [told] = await collect({ sandboxes });
    expect(told?.valid).toEqual([{ containerId: 'other', ifName: 'eth0' }]);
  });

  it("leaves the plugins' own collection out beside another runtime, whose pods they would take for garbage", async () => {
    const [told] = await collect({ otherRuntimes: async () => ['containerd'] });
    expect(told?.networks).toBe(0);
  });

  it('harms nothing when it fails', async () => {
    const otherRuntimes = async () => {
      throw new Error('cannot look');
    };
    expect(await collect({ otherRuntimes })).toEqual([]);
  });
});
