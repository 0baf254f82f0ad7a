import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEngine } from '../../../src/steps/engine.ts';
import { faultObserver } from '../../../src/steps/faults.ts';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ct-faults-'));
  file = join(directory, 'faults');
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Runs a plan of steps a and b with the faults that the file holds; returns what happened. */
async function run(
  signal = new AbortController().signal,
  deadlineMs = 20,
): Promise<{ history: string[]; error: unknown }> {
  const observer = faultObserver({ CRI_TS_FAULTS: file });
  if (!observer) throw new Error('no observer');
  const history: string[] = [];
  const step = (name: string) => ({
    name,
    do: () => void history.push(name),
    undo: () => void history.push(`undo ${name}`),
  });
  const subject = { id: 's', owed: [], times: {}, save: async () => {} };
  const engine = createEngine({ observers: [observer], deadlineMs, undoDeadlineMs: deadlineMs });
  const error = await engine.bringUp('Run', [step('a'), step('b')], subject, signal).catch(thrown => thrown);
  return { history, error };
}

describe('injected faults', () => {
  it('are none unless the environment names a file', () => {
    expect(faultObserver({})).toBeUndefined();
  });

  it('are none while the file is missing or empty', async () => {
    expect((await run()).history).toEqual(['a', 'b']);
    writeFileSync(file, '');
    expect((await run()).history).toEqual(['a', 'b']);
  });

  it('make a step fail before it acts', async () => {
    writeFileSync(file, 'Run/b/do/before/fail');
    const { history, error } = await run();
    expect(history).toEqual(['a', 'undo b', 'undo a']);
    expect(String(error)).toContain('injected failure of step "b"');
  });

  it('make a step fail after it acted', async () => {
    writeFileSync(file, 'Run/b/do/after/fail');
    expect((await run()).history).toEqual(['a', 'b', 'undo b', 'undo a']);
  });

  it('make a step hang until its deadline passes', async () => {
    writeFileSync(file, 'Run/b/do/before/hang');
    expect((await run()).error).toMatchObject({ kind: 'deadlineExceeded' });
  });

  it('make a step that has acted hang until its deadline passes', async () => {
    writeFileSync(file, 'Run/b/do/after/hang');
    const { history, error } = await run();
    expect(history).toEqual(['a', 'b', 'undo b', 'undo a']);
    expect(error).toMatchObject({ kind: 'deadlineExceeded', message: expect.stringContaining('"b" (do)') });
  });

  it('make a step that has acted hang until its caller goes away', async () => {
    writeFileSync(file, 'Run/b/do/after/hang');
    const { history, error } = await run(AbortSignal.timeout(5));
    expect(history).toEqual(['a', 'b', 'undo b', 'undo a']);
    expect(error).toMatchObject({ kind: 'cancelled' });
  });

  it('make a step that was undone hang, so that it stays owed', async () => {
    writeFileSync(file, 'Run/b/do/after/fail\nRun/b/undo/after/hang');
    expect((await run()).history).toEqual(['a', 'b', 'undo b']);
  });

  it('make a step pause and then go on', async () => {
    writeFileSync(file, 'Run/a/do/before/pause:10\nRun/b/do/after/pause:1');
    const { history, error } = await run(undefined, 60_000);
    expect(history).toEqual(['a', 'b']);
    expect(error).toBeUndefined();
    expect(readFileSync(file, 'utf8')).toBe('');
  });

  it('tell that a step was over before it could be struck within', async () => {
    writeFileSync(file, 'Run/a/do/within:60000/kill');
    expect((await run(undefined, 60_000)).history).toEqual(['a', 'b']);
    expect(readFileSync(file, 'utf8')).toBe('missed Run/a/do/within:60000/kill');
  });

  it('make an undo fail', async () => {
    writeFileSync(file, 'Run/b/do/after/fail\nRun/b/undo/before/fail');
    expect((await run()).history).toEqual(['a', 'b']);
  });

  it('strike once, and leave the file when they do', async () => {
    writeFileSync(file, 'Run/a/do/before/fail\nOther/a/do/before/fail');
    await run();
    expect(readFileSync(file, 'utf8')).toBe('Other/a/do/before/fail');
    expect((await run()).history).toEqual(['a', 'b']);
  });

  it('refuse a line that is none', async () => {
    writeFileSync(file, 'Run/a/do');
    expect(String((await run()).error)).toContain('"Run/a/do" is no fault');
  });
});
