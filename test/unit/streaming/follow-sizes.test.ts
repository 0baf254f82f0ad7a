// How a terminal follows its client's window.
import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/log.ts';
import { followSizes } from '../../../src/streaming/follow-sizes.ts';

describe('a terminal that follows the window of its client', () => {
  it('takes the next size when one could not be set', async () => {
    const seen: number[] = [];
    async function* sizes() {
      for (const width of [80, 90, 100]) yield { width, height: 24 };
    }
    await followSizes({
      sizes: sizes(),
      set({ width }) {
        if (width === 90) throw new Error('EMFILE: too many open files');
        seen.push(width);
      },
      containerId: 'c1',
      log: silentLogger(),
    });
    expect(seen).toEqual([80, 100]);
  });
});
