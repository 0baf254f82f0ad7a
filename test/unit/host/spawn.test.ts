import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { spawnChild } from '../../../src/host/spawn.ts';
import { endOf } from '../../../src/host/wait.ts';

const file = join(tmpdir(), `cri-ts-spawn-${process.pid}`);
afterAll(() => rmSync(file, { force: true }));

const environment = { PATH: '/bin:/usr/bin' };

/** What a command writes to its standard output; other descriptors of its are as in `stdio`. */
async function written(command: string[], stdio: readonly (number | undefined)[] = []): Promise<string> {
  const fd = openSync(file, 'w');
  const [program = '', ...args] = command;
  const places = [undefined, fd, undefined, ...stdio.slice(3)];
  const pid = await spawnChild({ file: program, args, env: environment, stdio: places });
  closeSync(fd);
  expect(await endOf(pid)).toMatchObject({ exitCode: 0 });
  return readFileSync(file, 'utf8');
}

/** What each descriptor of a child is. */
async function descriptors(stdio: readonly (number | undefined)[] = []): Promise<Record<string, string>> {
  const listing = await written(['ls', '-l', '/proc/self/fd'], stdio);
  return Object.fromEntries(
    [...listing.matchAll(/ (\d+) -> (\S+)/g)].map(([, place, target]) => [place, target]),
  );
}

describe('a spawned child', () => {
  it('has the descriptors that it was given, in their places', async () => {
    const given = openSync('/proc/self/stat', 'r');
    const found = await descriptors([undefined, undefined, undefined, given]);
    closeSync(given);
    expect(found).toMatchObject({
      0: '/dev/null',
      1: file,
      2: '/dev/null',
      3: `/proc/${process.pid}/stat`,
    });
    expect(Object.keys(await descriptors())).not.toContain(String(given));
  });

  it("gets two descriptors of which each has the number of the other's place", async () => {
    const [first, second] = [openSync('/dev/zero', 'r'), openSync('/dev/full', 'r')];
    const stdio: (number | undefined)[] = Array.from(
      { length: Math.max(first, second) + 1 },
      () => undefined,
    );
    stdio[first] = second;
    stdio[second] = first;
    const found = await descriptors(stdio);
    for (const fd of [first, second]) closeSync(fd);
    expect(found).toMatchObject({ [first]: '/dev/full', [second]: '/dev/zero' });
  });

  it('leads a session of its own, and is ended by a broken pipe, which Node ignores', async () => {
    const fields = (await written(['cat', '/proc/self/stat'])).split(' ');
    expect(fields[5]).toBe(fields[0]); // session
    const ignored = await written(['grep', '-E', 'Sig(Ign|Blk)', '/proc/self/status']);
    expect(ignored.match(/0{16}/g)).toHaveLength(2);
  });

  it('waits for as many ends at a time as there are', async () => {
    const pids = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        spawnChild({ file: '/bin/sh', args: ['-c', `exit ${i}`], env: {}, stdio: [] }),
      ),
    );
    const ends = await Promise.all(pids.map(endOf));
    expect(ends.map(({ exitCode }) => exitCode)).toEqual(pids.map((_, i) => i));
  });
});
