// Archives that are written where others may write, too.
import { once } from 'node:events';
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
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
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

it('an archive that is given up, or whose writer is killed, leaves nothing beside it', async () => {
  const to = join(directory, 'archive');
  const script = `
    import { packArchive } from ${JSON.stringify(fileURLToPath(new URL('../../../src/image/pack.ts', import.meta.url)))};
    const members = [{ name: 'a', text: 'a' }, { name: 'endless', path: '/dev/zero', size: 2 ** 40 }];
    void packArchive(members, ${JSON.stringify(to)}, new AbortController().signal);
    process.stdin.once('data', () => process.kill(process.pid, 'SIGKILL'));
    console.log('writing');`;
  const writer = execa('node', ['--import', 'tsx', '--input-type=module', '-e', script], { reject: false });
  await once(writer.stdout, 'data');
  writer.stdin.end('now');
  expect((await writer).signal).toBe('SIGKILL');
  expect(readdirSync(directory)).toEqual([]);

  const missing = [
    { name: 'a', text: 'a' },
    { name: 'b', path: join(directory, 'none'), size: 1 },
  ];
  await expect(packArchive(missing, to, new AbortController().signal)).rejects.toThrow(/none/);
  expect(readdirSync(directory)).toEqual([]);
});

it('an archive takes the place of an earlier one', async () => {
  const to = join(directory, 'archive');
  writeFileSync(to, 'earlier');
  await pack(to);
  expect(readFileSync(to)).not.toEqual(Buffer.from('earlier'));
  expect(readdirSync(directory)).toEqual(['archive']);
});

it('an archive has its own mode, whatever was there before', async () => {
  const to = join(directory, 'archive');
  writeFileSync(`${to}.part`, '', { mode: 0o666 });
  await pack(to);
  expect(statSync(to).mode & 0o777).toBe(0o600);
});
