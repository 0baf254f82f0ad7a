import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { expect, test } from 'vitest';
import { gatherHostFacts, parseKernelRelease, parseLimits } from '../../../src/host/facts.ts';

test('the facts are those of this host', async () => {
  const facts = await gatherHostFacts();
  expect(facts.hostname).toBe(hostname());
  expect(facts.oomScoreAdj).toBe(Number(readFileSync('/proc/self/oom_score_adj', 'utf8')));
  expect(facts.rlimits.get('RLIMIT_NOFILE')?.hard).toBeGreaterThan(0);
  expect(facts.kernel.major).toBeGreaterThan(3);
  expect([1, 2]).toContain(facts.cgroup.version);
});

test('limits are read by their OCI names, unlimited as undefined', () => {
  const limits = parseLimits(
    [
      'Limit                     Soft Limit           Hard Limit           Units     ',
      'Max cpu time              unlimited            unlimited            seconds   ',
      'Max open files            1024                 524288               files     ',
      'Max nice priority         0                    0                    ',
    ].join('\n'),
  );
  expect(limits.get('RLIMIT_NOFILE')).toEqual({ soft: 1024, hard: 524288 });
  expect(limits.get('RLIMIT_CPU')).toEqual({ soft: undefined, hard: undefined });
  expect(limits.get('RLIMIT_NICE')).toEqual({ soft: 0, hard: 0 });
  expect(limits.size).toBe(3);
});

test('a kernel release is read up to its minor number', () => {
  expect(parseKernelRelease('6.12.1-amd64')).toEqual({ major: 6, minor: 12 });
  expect(parseKernelRelease('weird')).toEqual({ major: 0, minor: 0 });
});
