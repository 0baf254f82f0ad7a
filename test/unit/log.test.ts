import { expect, test } from 'vitest';
import { textLine } from '../../src/log.ts';

test('a line of text has time, level and message first, and quotes what has spaces in it', () => {
  const json = JSON.stringify({
    level: 'warn',
    time: '2026-01-02T03:04:05.678Z',
    sandbox: 'abc',
    ms: 1.5,
    err: { message: 'no "x"' },
    msg: 'step failed',
  });
  expect(textLine(json)).toBe(
    'time=2026-01-02T03:04:05.678Z level=warn msg="step failed" sandbox=abc ms=1.5 err="{\\"message\\":\\"no \\\\\\"x\\\\\\"\\"}"\n',
  );
});
