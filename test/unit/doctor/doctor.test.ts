// The examination as a whole: on this machine, in print, and when a check itself breaks.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { doctorCommand } from '../../../src/cli/doctor.ts';
import { loadConfig } from '../../../src/config/index.ts';
import {
  type Check,
  checks,
  examine,
  formatReport,
  thisHost,
  worstLevel,
} from '../../../src/doctor/index.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cri-ts-doctor-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  rmSync(dir, { recursive: true });
});

const { config } = loadConfig();

it('every check runs on this machine and leaves it as it was', async () => {
  const own = loadConfig({
    flags: {
      root: join(dir, 'root'),
      state: join(dir, 'state'),
      address: join(dir, 'cri.sock'),
      cniConfDir: join(dir, 'net.d'),
    },
  }).config;
  const reports = await examine(thisHost(), own);
  expect(reports.map(({ check }) => check)).toEqual(checks.map(({ name }) => name));
  const findings = reports.flatMap(({ findings }) => findings);
  expect(findings.filter(({ found }) => found.includes('could not be carried out'))).toEqual([]);
  expect(reports.filter(({ findings }) => findings.length === 0)).toEqual([]);
  expect(readdirSync(dir)).toEqual([]);
});

it('what fails or warns says how to mend it', async () => {
  const reports = await examine(thisHost({ root: dir }), config);
  const bad = reports
    .flatMap(({ findings }) => findings)
    .filter(({ level }) => level === 'fail' || level === 'warn');
  expect(bad.length).toBeGreaterThan(3);
  expect(bad.filter(({ mend }) => mend === undefined || mend === '')).toEqual([]);
});

it('a check that breaks becomes a finding, and the others are carried out', async () => {
  const broken: Check = {
    name: 'broken',
    run: () => {
      throw new Error('its reason');
    },
  };
  const sound: Check = { name: 'sound', run: () => [{ level: 'ok', found: 'fine', why: 'so' }] };
  const reports = await examine(thisHost({ root: dir }), config, [broken, sound]);
  expect(reports[0]?.findings[0]).toMatchObject({
    level: 'warn',
    found: expect.stringContaining('its reason'),
  });
  expect(reports[1]?.findings[0]?.level).toBe('ok');
});

it('the report has why and how only where there is something to do', () => {
  const reports = [
    {
      check: 'a',
      findings: [
        { level: 'ok', found: 'good', why: 'unsaid' },
        { level: 'fail', found: 'bad', why: 'because', mend: 'do this' },
      ],
    },
  ] as const;
  expect(formatReport(reports)).toBe(
    'ok    a: good\nFAIL  a: bad\n      because\n      -> do this\n\n1 failed, 0 warnings, 0 notes, 1 ok\n',
  );
  expect(worstLevel(reports)).toBe('fail');
});

it('the command exits with 1 for a configuration that does not load, and says why', async () => {
  const file = join(dir, 'config.toml');
  writeFileSync(file, 'version = 3\nroot = "relative"');
  let printed = '';
  vi.spyOn(process.stdout, 'write').mockImplementation(chunk => {
    printed += String(chunk);
    return true;
  });
  await doctorCommand().parseAsync(['--json', '--config', file], { from: 'user' });
  const report: unknown = JSON.parse(printed);
  expect(report).toMatchObject([
    {
      check: 'configuration',
      findings: [{ level: 'fail', found: expect.stringContaining('root: "relative"') }],
    },
  ]);
  expect(process.exitCode).toBe(1);
});
