import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createLocks } from '../../../src/steps/locks.ts';

/** Work that says when it begins and lasts until it is let go. */
function work(history: string[], name: string) {
  let release = () => {};
  const held = new Promise<void>(resolve => {
    release = resolve;
  });
  const run = async () => {
    history.push(`${name} begins`);
    await held;
    history.push(`${name} ends`);
  };
  return { run, release };
}

describe('exclusive holders of one name', () => {
  it('take turns in the order of asking', async () => {
    const history: string[] = [];
    const locks = createLocks();
    const [a, b, c] = ['a', 'b', 'c'].map(name => work(history, name)) as [
      ReturnType<typeof work>,
      ReturnType<typeof work>,
      ReturnType<typeof work>,
    ];
    const all = [a, b, c].map(({ run }) => locks.exclusive('x', run));
    for (const { release } of [c, b, a]) release();
    await Promise.all(all);
    expect(history).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  it('give way to the next also when they fail', async () => {
    const locks = createLocks();
    const failed = locks.exclusive('x', async () => {
      throw new Error('failed');
    });
    await expect(failed).rejects.toThrow('failed');
    expect(await locks.exclusive('x', async () => 'next')).toBe('next');
  });

  it('of different names do not wait for each other', async () => {
    const locks = createLocks();
    const held = work([], 'a');
    const first = locks.exclusive('x', held.run);
    expect(await locks.exclusive('y', async () => 'at once')).toBe('at once');
    held.release();
    await first;
  });
});

describe('shared holders', () => {
  it('hold side by side', async () => {
    const history: string[] = [];
    const locks = createLocks();
    const [a, b] = [work(history, 'a'), work(history, 'b')];
    const both = [locks.shared('x', a.run), locks.shared('x', b.run)];
    await turn();
    expect(history).toEqual(['a begins', 'b begins']);
    for (const { release } of [a, b]) release();
    await Promise.all(both);
  });

  it('keep an exclusive one waiting until the last of them has ended', async () => {
    const history: string[] = [];
    const locks = createLocks();
    const [a, b] = [work(history, 'a'), work(history, 'b')];
    const shared = [locks.shared('x', a.run), locks.shared('x', b.run)];
    const exclusive = locks.exclusive('x', async () => void history.push('exclusive'));
    a.release();
    await turn();
    expect(history).not.toContain('exclusive');
    b.release();
    await Promise.all([...shared, exclusive]);
    expect(history.at(-1)).toBe('exclusive');
  });

  it('that ask after an exclusive one wait for it, so that it is not starved', async () => {
    const history: string[] = [];
    const locks = createLocks();
    const first = work(history, 'first');
    const running = locks.shared('x', first.run);
    const exclusive = locks.exclusive('x', async () => void history.push('exclusive'));
    const late = locks.shared('x', async () => void history.push('late'));
    await turn();
    expect(history).toEqual(['first begins']);
    first.release();
    await Promise.all([running, exclusive, late]);
    expect(history).toEqual(['first begins', 'first ends', 'exclusive', 'late']);
  });
});
