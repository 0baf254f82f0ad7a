import { expect, test } from 'vitest';
import { passedThrough } from '../../../src/oci/spec/annotations.ts';

function fits(key: string, pattern: string): boolean {
  return key in passedThrough({ [key]: 'v' }, [pattern]);
}

test.each([
  ['runc.com.*', 'runc.com.x', true],
  ['runc.com.*', 'runcXcom.x', false],
  ['*', 'a/b', false],
  ['*/*', 'a/b', true],
  ['io.?.x', 'io.a.x', true],
  ['io.?.x', 'io./.x', false],
  ['v[0-9]', 'v3', true],
  ['v[^0-9]', 'v3', false],
  ['v[[]', 'v[', true],
  ['a\\*', 'a*', true],
  ['a\\*', 'ab', false],
  ['plain', 'plain.more', false],
  ['[unclosed', '[unclosed', false],
  ['[z-a]', 'b', false],
])('the pattern %s and the key %s', (pattern, key, expected) => {
  expect(fits(key, pattern)).toBe(expected);
});

test('without patterns nothing passes', () => {
  expect(passedThrough({ a: '1' }, [])).toEqual({});
});
