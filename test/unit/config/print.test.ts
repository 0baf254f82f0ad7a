// What `config default` and `config dump` print, and that the manual knows every key.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  formatPath,
  type KeyRow,
  keyRows,
  loadConfig,
  printConfigFile,
  printDefaultFile,
} from '../../../src/config/index.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cri-ts-config-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function reload(text: string) {
  const file = join(dir, 'printed.toml');
  writeFileSync(file, text);
  return loadConfig({ file });
}

it('the printed default file says what no file says', () => {
  const { config, warnings } = reload(printDefaultFile());
  expect(warnings).toEqual([]);
  expect(config).toEqual(loadConfig().config);
});

it('the printed default file has every honoured key with its meaning', () => {
  const text = printDefaultFile();
  for (const { path, text: meaning } of keyRows().filter(({ effect }) => effect === 'honoured')) {
    expect(text, formatPath(path)).toContain(`# ${meaning}\n`);
  }
});

it.each(['hard-way.toml', 'containerd-1.6-default.toml'])(
  'what is dumped of %s loads to the same configuration',
  name => {
    const file = new URL(`fixtures/${name}`, import.meta.url).pathname;
    const loaded = loadConfig({ file });
    expect(reload(printConfigFile(loaded.file)).config).toEqual(loaded.config);
  },
);

it('a dump has its imports in it and does not import again', () => {
  writeFileSync(join(dir, 'more.toml'), 'version = 2\nroot = "/more"');
  const { file } = reload('version = 2\nimports = ["more.toml"]');
  expect(printConfigFile(file)).toContain('root = "/more"');
  expect(printConfigFile(file)).toContain('imports = []');
  expect(printConfigFile(file)).toContain('version = 3');
});

describe('the manual, docs/configuration.md', () => {
  const manual = new URL('../../../docs/configuration.md', import.meta.url).pathname;

  // UPDATE_DOCS=1 writes the tables instead of comparing them.
  it.each(['honoured', 'none'] as const)('has the table of keys that are %s', effect => {
    const [begin, end] = [`<!-- keys: ${effect} -->\n`, `<!-- end of keys: ${effect} -->`];
    const text = readFileSync(manual, 'utf8');
    const table = tableOf(effect);
    if (process.env.UPDATE_DOCS === '1') {
      const [before = '', rest = ''] = text.split(begin);
      writeFileSync(manual, `${before}${begin}${table}${end}${rest.split(end)[1]}`);
      return;
    }
    expect(text.split(begin)[1]?.split(end)[0]).toBe(table);
  });
});

/** One table for each table of the file. */
function tableOf(effect: KeyRow['effect']): string {
  const tables = new Map<string, KeyRow[]>();
  for (const row of keyRows().filter(row => row.effect === effect)) {
    const parent = formatPath(row.path.slice(0, -1));
    tables.set(parent, [...(tables.get(parent) ?? []), row]);
  }
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const head =
    effect === 'honoured' ? '| key | default | meaning |\n|---|---|---|' : '| key | why |\n|---|---|';
  const printed = [...tables].map(([parent, rows]) => {
    const lines = rows.map(({ path, default: value, text }) => {
      const key = `\`${formatPath(path.slice(-1))}\``;
      const shown = value === undefined ? 'none' : `\`${cell(value)}\``;
      return effect === 'honoured' ? `| ${key} | ${shown} | ${cell(text)} |` : `| ${key} | ${cell(text)} |`;
    });
    const title = parent === '' ? 'At the top of the file' : `\`[${parent}]\``;
    return `${title}\n\n${head}\n${lines.join('\n')}\n`;
  });
  return `\n${printed.join('\n')}\n`;
}
