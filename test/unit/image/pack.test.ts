// Archives that are written where others may write, too.
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { packArchive } from '../../../src/image/pack.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pack-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const pack = (to: string) =>
  packArchive([{ name: 'a', text: 'secret' }], to, new AbortController().signal, 0o600);

it('an archive does not go where a link leads that was planted beside it', async () => {
  const [to, victim] = [join(directory, 'archive'), join(directory, 'victim')];
  writeFileSync(victim, 'of value', { mode: 0o644 });
  symlinkSync(victim, `${to}.part`);
  await pack(to);
  expect(readFileSync(victim, 'utf8')).toBe('of value');
  expect(statSync(to).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory).sort()).toEqual(['archive', 'archive.part', 'victim']);
});

it('an archive has its own mode, whatever was there before', async () => {
  const to = join(directory, 'archive');
  writeFileSync(`${to}.part`, '', { mode: 0o666 });
  await pack(to);
  expect(statSync(to).mode & 0o777).toBe(0o600);
});
