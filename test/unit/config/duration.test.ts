import { expect, it } from 'vitest';
import { parseDuration } from '../../../src/config/duration.ts';

it.each([
  ['0', 0],
  ['0s', 0],
  ['10s', 10_000],
  ['4m', 240_000],
  ['4h0m0s', 14_400_000],
  ['1h30m', 5_400_000],
  ['1.5h', 5_400_000],
  ['.5s', 500],
  ['250ms', 250],
  ['10us', 0.01],
  ['10µs', 0.01],
  ['-1s', -1000],
])('%s is %d ms, as in Go', (text, milliseconds) => {
  expect(parseDuration(text)).toBeCloseTo(milliseconds, 9);
});

it.each(['', '5', 's', '4 m', '4min', '1d', '1h-2m', '4m ', '١s'])('%j is no duration', text => {
  expect(parseDuration(text)).toBeUndefined();
});
