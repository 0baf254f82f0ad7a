import { existsSync } from 'node:fs';
import { chmod, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { CniError } from '../../../src/cni-invoker/index.ts';
import { bench, type FakeScript, fails, networkOf, runtime, says } from './fake-plugins.ts';

/** The error of an ADD with one plugin that behaves as told. */
async function addWith(script: FakeScript, options: { pluginTimeoutMs?: number; signal?: AbortSignal } = {}) {
  const made = await bench();
  await made.plugin('bad', script);
  const error: unknown = await made
    .invoker(options)
    .add(networkOf(['bad']), runtime, options.signal)
    .catch((thrown: unknown) => thrown);
  if (!(error instanceof CniError)) throw new Error(`expected a CniError, not ${String(error)}`);
  return { error, made, plugin: join(made.binDir, 'bad') };
}

describe('a plugin that fails', () => {
  it('keeps its JSON error whole beside network, plugin, verb and stderr', async () => {
    const { error, plugin } = await addWith({
      ADD: `echo 'a log line' >&2; ${fails(100, 'no address left', 'range 10.0.0.0/30 is full')}`,
    });
    expect(error.kind).toBe('plugin-failed');
    expect(error.details).toMatchObject({
      verb: 'ADD',
      network: 'testnet',
      plugin,
      containerId: 'c1',
      ifName: 'eth0',
      exitCode: 1,
      stderr: 'a log line\n',
      pluginError: { code: 100, msg: 'no address left', details: 'range 10.0.0.0/30 is full' },
    });
    for (const part of ['ADD', plugin, 'testnet', 'eth0', 'c1', 'no address left', 'is full', 'code 100']) {
      expect(error.message).toContain(part);
    }
  });

  it('is reported by its exit code and stderr when it prints no error', async () => {
    const { error } = await addWith({ ADD: 'echo segfault >&2; exit 139' });
    expect(error).toMatchObject({ kind: 'plugin-failed', details: { exitCode: 139, stderr: 'segfault\n' } });
    expect(error.message).toMatch(/exited with code 139 and printed no error message.*segfault/);
  });

  it('is reported with its words when they are no CNI error', async () => {
    const { error } = await addWith({ ADD: 'echo "panic: nil map"; exit 2' });
    expect(error.kind).toBe('plugin-failed');
    expect(error.details.pluginError).toBeUndefined();
    expect(error.message).toContain('panic: nil map');
  });

  it('is reported when it ends well but prints garbage', async () => {
    const { error } = await addWith({ ADD: 'echo "{{{"' });
    expect(error.kind).toBe('invalid-result');
    expect(error.message).toMatch(/ended well, but its output is not JSON.*\{\{\{/);
  });

  it.each([
    ['nothing', ':', 'is empty'],
    ['JSON that is no result', says({ ips: 'none' }), 'ips'],
    ['an error under exit code 0', says({ code: 7, msg: 'no' }), 'is an error'],
  ])('is reported when it ends well but prints %s', async (_what, ADD, words) => {
    const { error } = await addWith({ ADD });
    expect(error.kind).toBe('invalid-result');
    expect(error.message).toContain(words);
  });

  it('is killed when it prints 100 MB', async () => {
    const { error } = await addWith({ ADD: 'head -c 100000000 /dev/zero' });
    expect(error).toMatchObject({ kind: 'plugin-output-too-large' });
    expect(error.message).toContain('more than 1048576 bytes');
  });

  it('may write any amount to stderr; the end is kept', async () => {
    const { error } = await addWith({ ADD: `seq 1 500000 >&2; ${fails(999, 'after all')}` });
    expect(error.kind).toBe('plugin-failed');
    expect(error.details.stderr).toMatch(/\n500000\n$/);
    expect(error.details.stderr?.length).toBeLessThanOrEqual(4096);
  });

  it('is killed when it hangs, with what it has started', async () => {
    const { error } = await addWith({ ADD: 'sleep 600 & wait' }, { pluginTimeoutMs: 300 });
    expect(error.kind).toBe('plugin-timed-out');
    expect(error.message).toContain('killed after 300 ms');
  });

  it('may finish an ADD whose request is cancelled, for DEL finds all that a whole one made', async () => {
    const controller = new AbortController();
    const begun = join((await bench()).dir, 'begun');
    const ADD = `touch ${begun}; sleep 0.5; ${fails(999, 'at its own end')}`;
    const adding = addWith({ ADD }, { signal: controller.signal });
    await vi.waitUntil(() => existsSync(begun), 60_000);
    controller.abort();
    expect((await adding).error).toMatchObject({ kind: 'plugin-failed' });
  });

  it('is killed when the request is cancelled and it does not end, and is undone nevertheless', async () => {
    const controller = new AbortController();
    const begun = join((await bench()).dir, 'begun');
    const adding = addWith({ ADD: `touch ${begun}; sleep 600` }, { signal: controller.signal });
    await vi.waitUntil(() => existsSync(begun), 60_000);
    controller.abort();
    const { error, made } = await adding;
    expect(error.kind).toBe('cancelled');
    expect(made.calls()).toEqual(['ADD bad', 'DEL bad']);
  });

  it('is not started for a request that is cancelled already', async () => {
    const { error, made } = await addWith({}, { signal: AbortSignal.abort() });
    expect(error.kind).toBe('cancelled');
    expect(made.calls()).toEqual([]);
  });

  it('is reported when a signal ends it', async () => {
    const { error } = await addWith({ ADD: 'kill -9 $$' });
    expect(error.kind).toBe('plugin-killed');
    expect(error.message).toContain('SIGKILL');
  });

  it('is reported when it is missing, before anything has run', async () => {
    const made = await bench();
    await made.plugin('first');
    await expect(made.invoker().add(networkOf(['first', 'absent']), runtime)).rejects.toMatchObject({
      kind: 'plugin-not-found',
      message: expect.stringContaining(`"absent" is not in ${made.binDir}`),
    });
    expect(made.calls()).toEqual([]);
    expect((await made.invoker().cachedAttachments()).attachments).toEqual([]);
  });

  it('is reported when it is not executable', async () => {
    const made = await bench();
    await made.plugin('plain');
    await chmod(join(made.binDir, 'plain'), 0o644);
    await expect(made.invoker().add(networkOf(['plain']), runtime)).rejects.toMatchObject({
      kind: 'plugin-not-executable',
    });
  });

  it('is reported when it cannot be started though it is executable', async () => {
    const made = await bench();
    await made.plugin('bad');
    const file = await open(join(made.binDir, 'bad'), 'w');
    await file.writeFile('#!/nonexistent/interpreter\n');
    await file.close();
    await expect(made.invoker().add(networkOf(['bad']), runtime)).rejects.toMatchObject({
      kind: 'plugin-not-started',
    });
  });

  it('is started again when its file was still being written', async () => {
    const made = await bench();
    await made.plugin('busy', { ADD: says({ ips: [{ address: '10.0.0.1/8' }] }) });
    const writer = await open(join(made.binDir, 'busy'), 'r+');
    setTimeout(() => void writer.close(), 300);
    const result = await made.invoker().add(networkOf(['busy']), runtime);
    expect(result.ips).toEqual([{ address: '10.0.0.1/8' }]);
  });
});

describe('what a plugin is given', () => {
  it('is the six parameters, the rest of the environment without CNI_*, and the configuration', async () => {
    const made = await bench();
    const record = join(made.dir, 'record');
    await made.plugin('spy', {
      ADD: `{ env | grep -E '^(CNI_|INHERITED|PATH)' | sort; echo "$config"; } > ${record}; ${says({ ips: [] })}`,
    });
    const invoker = made.invoker({
      env: { INHERITED: 'yes', CNI_FORGED: 'no', CNI_ARGS: 'old', PATH: '/bin:/usr/bin' },
    });
    const spy = { type: 'spy', capabilities: { mac: true }, keep: [1, { me: null }] };
    await invoker.add(networkOf([spy]), {
      ...runtime,
      args: [
        ['IgnoreUnknown', '1'],
        ['K8S_POD_NAME', 'web'],
      ],
      capabilityArgs: { mac: 'c2:11:22:33:44:55', ips: ['10.0.0.1'] },
    });
    const { readFile } = await import('node:fs/promises');
    const lines = (await readFile(record, 'utf8')).trim().split('\n');
    expect(lines.slice(0, -1)).toEqual([
      'CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web',
      'CNI_COMMAND=ADD',
      'CNI_CONTAINERID=c1',
      'CNI_IFNAME=eth0',
      'CNI_NETNS=/proc/self/ns/net',
      `CNI_PATH=${made.binDir}`,
      'INHERITED=yes',
      'PATH=/bin:/usr/bin',
    ]);
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({
      type: 'spy',
      keep: [1, { me: null }],
      cniVersion: '1.1.0',
      name: 'testnet',
      runtimeConfig: { mac: 'c2:11:22:33:44:55' },
    });
  });

  it('is reported to the observer with times and outcome', async () => {
    const made = await bench();
    await made.plugin('good');
    await made.plugin('bad', { ADD: fails(11, 'later') });
    const before = Date.now();
    await made
      .invoker()
      .add(networkOf(['good', 'bad']), runtime)
      .catch(() => {});
    const [good, bad] = made.runs.filter(run => run.verb === 'ADD');
    expect(good).toMatchObject({
      plugin: 'good',
      path: join(made.binDir, 'good'),
      network: 'testnet',
      containerId: 'c1',
      ifName: 'eth0',
      outcome: 'ok',
      error: undefined,
    });
    expect(good?.startedAt).toBeGreaterThanOrEqual(before);
    expect(good?.durationMs).toBeGreaterThan(0);
    expect(JSON.parse(good?.stdin ?? '')).toMatchObject({ name: 'testnet', type: 'good' });
    expect(bad).toMatchObject({
      outcome: 'plugin-failed',
      error: { details: { pluginError: { code: 11 } } },
    });
  });

  it('comes from the first directory that has the plugin', async () => {
    const [first, second] = [await bench(), await bench()];
    await first.plugin('twice');
    await second.plugin('twice', { ADD: says({ ips: [{ address: '10.2.2.2/24' }] }) });
    const invoker = first.invoker({ binDirs: [first.binDir, second.binDir] });
    expect((await invoker.add(networkOf(['twice']), runtime)).ips[0]?.address).toBe('10.9.0.5/24');
    await rm(join(first.binDir, 'twice'));
    const again = await invoker.add(networkOf(['twice']), { ...runtime, containerId: 'c2' });
    expect(again.ips[0]?.address).toBe('10.2.2.2/24');
  });
});
