import { describe, expect, it } from 'vitest';
import { createRegistry } from '../../../src/store/registry.ts';

function registry(...ids: string[]) {
  const objects = createRegistry<{ readonly id: string }>('sandbox');
  for (const id of ids) objects.add({ id });
  return objects;
}

describe('finding', () => {
  it('takes a whole id or any prefix that fits one alone', () => {
    const objects = registry('abc1', 'abd2');
    expect(objects.find('abc1').id).toBe('abc1');
    expect(objects.find('abd').id).toBe('abd2');
  });

  it('takes a whole id also when it begins another', () => {
    expect(registry('ab', 'abc').find('ab').id).toBe('ab');
  });

  it('refuses a prefix that fits several', () => {
    expect(() => registry('abc1', 'abd2').find('ab')).toThrow(/sandbox id ab fits 2 sandboxes/);
    expect(() => registry('abc1', 'abd2').lookup('ab')).toThrow(/fits 2/);
  });

  it('refuses an empty id, which would fit everything', () => {
    expect(() => registry('abc1').lookup('')).toThrow(/no sandbox id/);
  });

  it('says what does not exist', () => {
    expect(() => registry('abc1').find('x')).toThrow('sandbox x does not exist');
    expect(registry('abc1').lookup('x')).toBeUndefined();
  });

  it('gives objects in the order of adding, without those removed', () => {
    const objects = registry('b', 'a', 'c');
    objects.remove('a');
    expect(objects.all().map(({ id }) => id)).toEqual(['b', 'c']);
  });
});

describe('names', () => {
  it('belong to one id until it gives them back', () => {
    const objects = registry();
    objects.reserve('pod', '1');
    objects.reserve('pod', '1');
    expect(() => objects.reserve('pod', '2')).toThrow(
      'the sandbox name pod is reserved for sandbox 1: remove that one first',
    );
    objects.release('pod', '1');
    objects.reserve('pod', '2');
  });

  it('are not given back by one who does not hold them', () => {
    const objects = registry();
    objects.reserve('pod', '1');
    objects.release('pod', '2');
    expect(() => objects.reserve('pod', '2')).toThrow(/reserved/);
  });
});
