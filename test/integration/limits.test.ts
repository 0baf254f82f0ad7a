// What the machine runs out of, or changes under a daemon's feet: descriptors, inotify watches, the wall clock, the networks.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspect } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { bridgeConf, startNode, type TestNode, until } from '../support/node.ts';

const clockFile = (node: TestNode) => join(node.directory, 'clock');

describe('a node', () => {
  let node: TestNode;
  let before: Everything;
  beforeAll(async () => {
    node = await startNode();
    before = await afterOnePod(node);
  });
  afterAll(() => node.destroy());

  it('whose daemon has no descriptors left says so, loses nothing, and works when it has some', async () => {
    const pod = await node.runPod();
    const id = await node.runContainer(pod, 'exec sleep 1000');
    const { pid } = await inspect(node, id);
    const limit = (soft: string) =>
      execFileSync('prlimit', ['--pid', String(node.pid()), `--nofile=${soft}:`]);
    const limits = readFileSync(`/proc/${node.pid()}/limits`, 'utf8');
    const softLimit = /^Max open files +(\d+)/m.exec(limits)?.[1] ?? '';
    // The limit is one of numbers: so many that two are free.
    const taken = new Set(readdirSync(`/proc/${node.pid()}/fd`).map(Number));
    let numbers = 0;
    for (let free = 0; free < 2; numbers++) if (!taken.has(numbers)) free++;
    limit(String(numbers));
    const { details } = await failureOf(node.runPod());
    expect(details).toMatch(/EMFILE|too many open files/i);
    expect((await failureOf(node.exec(id, 'true'))).details).toMatch(/EMFILE|too many open files/i);
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
    process.kill(pid, 'SIGKILL');
    await until('the process has gone', () => !existsSync(`/proc/${pid}/exe`) || undefined);
    await sleep(1000); // the daemon looks after orphans and ends meanwhile, and must live
    limit(softLimit);
    expect(await node.untilExited(id)).toMatchObject({ exitCode: 137 });
    expect((await node.output(await node.runPod(), 'echo again')).lines).toEqual(['again']);
    await untilAsBefore(node, before);
  });

  it('whose inotify watches are used up still sees its networks change', async () => {
    const confDir = join(node.directory, 'watched.d');
    const source = fileURLToPath(new URL('../../src/cni-invoker/index.ts', import.meta.url));
    const program = `
      import { mkdirSync, watch, writeFileSync } from 'node:fs';
      import { watchNetworks } from ${JSON.stringify(source)};
      const confDir = ${JSON.stringify(confDir)};
      mkdirSync(confDir);
      let limit = 'none';
      try { watch(confDir); } catch (error) { limit = error.code; }
      const options = { confDir, binDirs: ['/usr/lib/cni'], pollMs: 50 };
      await watchNetworks(options, ({ networks }) => {
        console.log(limit, networks.map(({ network }) => network.name).join());
        process.exit(0);
      });
      setTimeout(() => {}, 60_000);
      writeFileSync(confDir + '/10-a.conf', JSON.stringify({ cniVersion: '1.0.0', name: 'seen', type: 'bridge' }));
    `;
    const file = join(node.directory, 'watch.mts');
    writeFileSync(file, program);
    // The limit of a user namespace of its own, so that nobody else is without watches.
    const script = 'echo 0 > /proc/sys/user/max_inotify_watches; exec "$@"';
    const tsx = fileURLToPath(new URL('../../node_modules/.bin/tsx', import.meta.url));
    const { stdout } = await execa(
      'unshare',
      ['--user', '--map-root-user', 'sh', '-c', script, 'sh', tsx, file],
      {
        timeout: 60_000,
      },
    );
    expect(stdout).toBe('ENOSPC seen');
  });

  it('whose networks are replaced while pods run detaches them from the old ones', async () => {
    const old = await node.runPod();
    const other = { ...bridgeConf(node), name: 'other', bridge: `${node.bridge}x` };
    const ipam = {
      type: 'host-local',
      dataDir: join(node.directory, 'ipam'),
      ranges: [[{ subnet: '10.82.240.0/24' }]],
    };
    rmSync(join(node.cniConfDir, '10-bridge.conf'));
    writeFileSync(join(node.cniConfDir, '20-other.conf'), JSON.stringify({ ...other, ipam }));
    await until(
      'the other network is seen',
      async () => (await node.cri.Status({ verbose: true })).info.cniconfig?.includes('"other"') || undefined,
    );
    const fresh = await node.runPod();
    const ip = async (podSandboxId: string) =>
      (await node.cri.PodSandboxStatus({ podSandboxId })).status?.network?.ip;
    expect(await ip(old)).toContain(`${node.subnet}.`);
    expect(await ip(fresh)).toContain('10.82.240.');
    await node.kill();
    await node.start();
    for (const podSandboxId of [old, fresh]) await node.cri.RemovePodSandbox({ podSandboxId });
    execFileSync('ip', ['link', 'delete', `${node.bridge}x`]);
    rmSync(join(node.directory, 'ipam', 'other'), { recursive: true });
    rmSync(join(node.cniConfDir, '20-other.conf'));
    writeFileSync(join(node.cniConfDir, '10-bridge.conf'), JSON.stringify(bridgeConf(node)));
    await until('the first network is back', async () => {
      const { status } = await node.cri.Status();
      return status?.conditions.every(condition => condition.status) || undefined;
    });
    await untilAsBefore(node, before);
  });
});

describe('a clock that is set back', () => {
  let node: TestNode;
  let before: Everything;
  beforeAll(async () => {
    // The machine's clock is not to be touched: the daemon gets one that is a file's number of milliseconds behind.
    node = await startNode();
    const clock = `
      import { readFileSync } from 'node:fs';
      const now = Date.now;
      Date.now = () => now() - Number(readFileSync(${JSON.stringify(clockFile(node))}, 'utf8'));`;
    writeFileSync(join(node.directory, 'clock.mjs'), clock);
    writeFileSync(clockFile(node), '0');
    await restart();
    before = await afterOnePod(node);
  });
  afterAll(() => node.destroy());

  const restart = async () => {
    await node.kill();
    await node.start({ NODE_OPTIONS: `--import file://${join(node.directory, 'clock.mjs')}` });
  };
  const hour = 3_600_000;

  it.each(['the daemon goes on', 'the daemon is killed'])(
    'by an hour, and %s: pods go on, and no end comes before its beginning',
    async way => {
      writeFileSync(clockFile(node), '0');
      const pod = await node.runPod();
      const id = await node.runContainer(pod, 'trap "exit 4" TERM; touch /ready; sleep 1000 & wait');
      await node.exec(id, 'while [ ! -e /ready ]; do sleep 0.02; done');
      const { startedAt } = await node.status(id);
      writeFileSync(clockFile(node), String(hour));
      if (way === 'the daemon is killed') await restart();
      expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_RUNNING', startedAt });
      expect((await node.cri.ContainerStats({ containerId: id })).stats?.attributes?.id).toBe(id);
      const short = await node.output(pod, 'exit 6');
      expect(short.status.exitCode).toBe(6);
      expect(BigInt(short.status.finishedAt)).toBeGreaterThanOrEqual(BigInt(short.status.startedAt));
      await node.cri.StopContainer({ containerId: id, timeout: 30 });
      const ended = await node.status(id);
      expect(ended).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 4 });
      expect(BigInt(ended.finishedAt)).toBeGreaterThanOrEqual(BigInt(startedAt));
      const { url } = await node.cri.PortForward({ podSandboxId: pod, port: [80] });
      expect(url).toMatch(/^http/);
      await untilAsBefore(node, before);
    },
  );
});
