// Files that people and programs write for the daemon, spoilt at random: whatever stands in them ends in a configuration,
// or in an error with words. The seed is in the names of the tests; FUZZ_SEED and FUZZ_SECONDS as in test/support/fuzz.ts.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CniError } from '../../src/cni-invoker/errors.ts';
import { loadNetworks } from '../../src/cni-invoker/index.ts';
import { decodeResult } from '../../src/cni-invoker/result.ts';
import { ConfigError, loadConfig, printDefaultFile } from '../../src/config/index.ts';
import { createFuzz } from '../support/fuzz.ts';

const fuzz = createFuzz();
const { pick, chance, spoilText, spoilJson } = fuzz;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ct-fuzz-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe(`with seed ${fuzz.seed}`, () => {
  it('a spoilt configuration file loads, or is refused with the place and the reason', {
    timeout: 3_600_000,
  }, async () => {
    const fixtures = new URL('config/fixtures/', import.meta.url).pathname;
    const files = [
      printDefaultFile(),
      ...readdirSync(fixtures).map(name => readFileSync(join(fixtures, name), 'utf8')),
    ];
    const words = [
      '[',
      ']',
      '"',
      "'",
      '=',
      '\n',
      '{',
      'version = 2\n',
      'imports = ["*.toml"]\n',
      '[plugins]\n',
      '[[x]]\n',
      '1e400',
      '"5y"',
      '-1',
      'true',
      '[]',
      '""',
      '{}',
      '"__proto__" = {}\n',
      '0x',
      '1979-05-27',
    ];
    const file = join(directory, 'config.toml');
    const outcomes = { loaded: 0, refused: 0 };
    const texts = await fuzz.during(1.5, () => {
      const text = spoilText(pick(files), words);
      writeFileSync(file, text);
      try {
        const { config } = loadConfig({ file });
        expect(config.root).toMatch(/./);
        outcomes.loaded++;
      } catch (error) {
        if (!(error instanceof ConfigError)) writeFileSync(join(tmpdir(), 'ct-fuzz-config.toml'), text);
        expect(error, text).toBeInstanceOf(ConfigError);
        expect((error as ConfigError).problems.length).toBeGreaterThan(0);
        outcomes.refused++;
      }
    });
    console.log(`fuzzed configuration files: ${texts}`, outcomes);
    expect(outcomes.loaded).toBeGreaterThan(0);
    expect(outcomes.refused).toBeGreaterThan(0);
  });

  it('a spoilt CNI file is a network, or a problem that is told', { timeout: 3_600_000 }, async () => {
    const whole = [
      {
        cniVersion: '1.0.0',
        name: 'a',
        type: 'bridge',
        bridge: 'b',
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/16' }]] },
      },
      {
        cniVersion: '0.3.1',
        name: 'b',
        plugins: [
          { type: 'bridge' },
          { type: 'portmap', capabilities: { portMappings: true } },
          { type: 'loopback' },
        ],
      },
      {
        cniVersion: '1.1.0',
        cniVersions: ['1.0.0', '1.1.0'],
        name: 'c',
        disableCheck: true,
        disableGC: false,
        plugins: [{ type: 'bridge' }],
      },
    ];
    const [confDir, binDir] = [join(directory, 'net.d'), join(directory, 'bin')];
    mkdirSync(confDir);
    mkdirSync(binDir);
    for (const name of ['bridge', 'portmap', 'loopback'])
      writeFileSync(join(binDir, name), '', { mode: 0o755 });
    const outcomes = { usable: 0, problems: 0 };
    const directories = await fuzz.during(1.5, async () => {
      rmSync(confDir, { recursive: true });
      mkdirSync(confDir);
      for (let files = 1 + fuzz.below(2); files > 0; files--) {
        const text = JSON.stringify(chance(0.6) ? spoilJson(pick(whole)) : pick(whole)) ?? '';
        const name = pick(['10-a.conf', '20-b.conflist', '30-c.json']);
        const words = ['{', '}', ',', '"', ':', '\ufeff', '1e999'];
        writeFileSync(join(confDir, name), chance(0.3) ? spoilText(text, words) : text);
      }
      const loaded = await loadNetworks({ confDir, binDirs: [binDir] });
      if (loaded.usable) outcomes.usable++;
      outcomes.problems += loaded.problems.length;
      for (const { reason } of loaded.problems) expect(reason).not.toMatch(thrownByMistake);
      if (!loaded.usable) expect(loaded.problems.length).toBeGreaterThan(0);
    });
    console.log(`fuzzed CNI directories: ${directories}`, outcomes);
    expect(outcomes.usable).toBeGreaterThan(0);
    expect(outcomes.problems).toBeGreaterThan(0);
  });

  it('a spoilt result of a plugin is read, or refused as no result', { timeout: 3_600_000 }, async () => {
    const whole = [
      {
        cniVersion: '1.0.0',
        interfaces: [{ name: 'eth0', mac: '00:11:22:33:44:55', sandbox: '/x' }],
        ips: [{ interface: 0, address: '10.1.0.5/16', gateway: '10.1.0.1' }],
        routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }],
        dns: { nameservers: ['10.1.0.1'] },
      },
      { cniVersion: '0.4.0', ips: [{ version: '4', address: '10.1.0.5/16' }], dns: {} },
      { cniVersion: '0.2.0', ip4: { ip: '10.1.0.5/16', routes: [{ dst: '0.0.0.0/0' }] } },
      { cniVersion: '1.0.0', code: 7, msg: 'no', details: '' },
    ];
    let read = 0;
    const results = await fuzz.during(1, () => {
      const value = spoilJson(pick(whole));
      try {
        decodeResult(value);
        read++;
      } catch (error) {
        expect(error, JSON.stringify(value)).toBeInstanceOf(CniError);
      }
    });
    console.log(`fuzzed results of plugins: ${results}, read ${read}`);
    expect(read).toBeGreaterThan(0);
  });
});

/** Words of exceptions that no one meant to be read. */
const thrownByMistake = /Cannot read propert|is not a function|is not iterable|Maximum call stack/;
