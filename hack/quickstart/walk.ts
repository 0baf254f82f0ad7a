// The walk: what a Kubernetes node's runtime is for, from the empty machine to the empty machine. Reads from top to bottom.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { z } from 'zod';
import { writeBusyboxLayout } from '../../test/support/busybox-image.ts';
import type { Cleanup } from './cleanup.ts';
import { criTs, daemonLog, environmentMark, type RunningDaemon, startDaemon } from './daemon.ts';
import { makeOutside, type Outside } from './outside.ts';
import { cniFiles, findPlaces, linkNames, type Places, reservationDir } from './places.ts';
import { check, heading, say, show, showSteps } from './print.ts';
import { findRemains, type Remains } from './remains.ts';

interface Pod {
  name: string;
  id: string;
  ip: string;
  /** Name of its network namespace below /run/netns. */
  netns: string;
  containers: string[];
}

/**
 * @param logs gets the path of the daemon's log, for the case that something goes wrong
 * @throws with what did not come true
 */
export async function walk(cleanup: Cleanup, logs: string[], signal: AbortSignal): Promise<void> {
  heading('The node');
  const places = await prepare(cleanup);
  logs.push(daemonLog(places));
  const outside = await makeOutside(places, cleanup);
  await show(`ip -n ${places.outside.netns} route`);
  signal.throwIfAborted();

  heading('The daemon');
  const daemon = await serve(places, cleanup);
  await importImage(places);
  signal.throwIfAborted();

  heading('A pod of two containers, and a pod beside it');
  const web = await runPod(daemon, places, 'web');
  const server = await runContainer(daemon, web, 'server', serverScript);
  const client = await runContainer(daemon, web, 'client', clientScript);
  signal.throwIfAborted();
  const beside = await runPod(daemon, places, 'beside');
  const visitor = await runContainer(daemon, beside, 'visitor', clientScript);
  signal.throwIfAborted();

  heading("The kernel's own view");
  await showKernel(places, [web, beside]);
  await showPluginResult(daemon, web);

  heading('Who reaches whom');
  await meetOnLocalhost(daemon, client);
  await podReachesPod(daemon, visitor, web, beside);
  await nodeReachesPod(web);
  await podReachesOutside(daemon, visitor, beside, places, outside);
  await showLog(daemon, server);
  signal.throwIfAborted();

  const marks = await marksOf(daemon, places, [web, beside]);
  const during = await findRemains(marks, reservationDir(places));

  heading('Taking it down');
  await stopContainer(daemon, client);
  for (const pod of [web, beside]) await removePod(daemon, pod);
  say('', 'the daemon ends; its directories, the bridge and all else that this script made go too ...');
  const failures = await cleanup.run();
  if (failures.length > 0) throw new Error(failures.join('\n'));

  heading('What is left');
  showRemains(during, await findRemains(marks, reservationDir(places)), places);
}

// ---- the node

async function prepare(cleanup: Cleanup): Promise<Places> {
  const directory = await mkdtemp(join(tmpdir(), 'cri-ts-quickstart-'));
  cleanup.owe(directory, () => rm(directory, { recursive: true, force: true }));
  const places = await findPlaces(directory);

  cleanup.directory(places.cniConfDir);
  for (const [name, content] of Object.entries(cniFiles(places))) {
    const file = join(places.cniConfDir, name);
    cleanup.owe(file, () => rm(file, { force: true }));
    writeFileSync(file, content);
    await show(`cat ${file}`);
  }

  const forwarding = '/proc/sys/net/ipv4/ip_forward';
  const before = readFileSync(forwarding, 'utf8');
  cleanup.owe('net.ipv4.ip_forward', () => writeFileSync(forwarding, before));
  writeFileSync(forwarding, '1');
  await show('sysctl net.ipv4.ip_forward');

  const reservations = reservationDir(places);
  const isOurs = !existsSync(reservations);
  cleanup.directory(dirname(reservations));
  cleanup.owe(reservations, () => (isOurs ? rm(reservations, { recursive: true, force: true }) : undefined));
  cleanup.owe(`bridge ${places.bridge}`, async () => {
    const isThere = (await linkNames()).includes(places.bridge);
    if (isThere) await execa('ip', ['link', 'delete', places.bridge]);
  });
  cleanup.owe(`cgroup ${places.cgroupParent}`, () => removeCgroups(places.cgroupParent));
  return places;
}

/** A runtime leaves the parents of its cgroups to whoever named them: kubelet, or this script. */
async function removeCgroups(parent: string): Promise<void> {
  const found = ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*${parent}*`];
  await execa('find', [...found, '-exec', 'rmdir', '{}', ';'], { reject: false });
}

// ---- the daemon

async function serve(places: Places, cleanup: Cleanup): Promise<RunningDaemon> {
  for (const directory of [places.root, places.state]) {
    cleanup.owe(directory, () => {
      const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
      if (mounts.includes(` ${directory}/`)) throw new Error('something is still mounted below it');
      return rm(directory, { recursive: true, force: true });
    });
  }
  const began = performance.now();
  say(`$ cri-ts serve --log-level debug ${places.flags.join(' ')}`);
  const daemon = await startDaemon(places, cleanup);
  cleanup.owe('pods', async () => {
    // If it died, another takes up what it left, so that nothing stays behind.
    const answers = await daemon.cri.Version({}, { timeoutMs: 2000 }).catch(() => undefined);
    const { cri } = answers ? daemon : await startDaemon(places, cleanup);
    const { items } = await cri.ListPodSandbox();
    for (const { id } of items) await cri.RemovePodSandbox({ podSandboxId: id });
  });
  say(`  it serves after ${(performance.now() - began).toFixed(0)} ms`);
  const { status } = await daemon.cri.Status();
  for (const { type, status: holds, message } of status?.conditions ?? []) {
    check(type, message || String(holds), holds);
  }
  return daemon;
}

async function importImage(places: Places): Promise<void> {
  const layout = join(places.directory, 'busybox');
  await writeBusyboxLayout(layout);
  const began = performance.now();
  const { stdout } = await execa(criTs, ['image', 'import', layout, ...places.flags]);
  say('', `$ cri-ts image import ${layout}`, `  ${stdout} (${(performance.now() - began).toFixed(0)} ms)`);
}

// ---- pods and containers

const infoSchema = z.object({ netNamespace: z.string(), cniResult: z.array(z.unknown()) });

async function inspect({ cri }: RunningDaemon, podSandboxId: string) {
  const { status, info } = await cri.PodSandboxStatus({ podSandboxId, verbose: true });
  return { status, ...infoSchema.parse(JSON.parse(info.info ?? '{}')) };
}

/** Awaits an RPC and shows it with the steps that it was made of. The title begins with the RPC's name. */
async function timed<T>(daemon: RunningDaemon, title: string, call: Promise<T>): Promise<T> {
  const began = performance.now();
  const answer = await call;
  const ms = performance.now() - began;
  const spans = await daemon.spansUntil(title.split(' ')[0] ?? '');
  showSteps(title, ms, spans, id => daemon.names.get(id) ?? id.slice(0, 12));
  return answer;
}

async function runPod(daemon: RunningDaemon, places: Places, name: string): Promise<Pod> {
  const config = podConfig(places, name);
  const call = daemon.cri.RunPodSandbox({ config });
  const { podSandboxId: id } = await timed(daemon, `RunPodSandbox of ${name}`, call);
  daemon.names.set(id, name);
  const { status, netNamespace } = await inspect(daemon, id);
  check(`pod ${name}`, `${status?.state} ${status?.network?.ip}`, status?.state === 'SANDBOX_READY');
  return { name, id, ip: status?.network?.ip ?? '', netns: basename(netNamespace), containers: [] };
}

/** As kubelet would ask for it: a hostname, a log directory, a parent cgroup, a PID namespace for each container. */
function podConfig({ directory, cgroupParent }: Places, name: string) {
  return {
    metadata: { name, namespace: 'quickstart', uid: `uid-${name}`, attempt: 0 },
    hostname: name,
    logDirectory: join(directory, 'logs', name),
    linux: { cgroupParent, securityContext: { namespaceOptions: { pid: 'CONTAINER' as const } } },
  };
}

const serverScript =
  'echo "hello from $(hostname)" > /var/www/index.html; exec httpd -f -vv -p 80 -h /var/www';
const clientScript = 'trap "exit 0" TERM; sleep 3600 & wait';

async function runContainer(daemon: RunningDaemon, pod: Pod, name: string, script: string): Promise<string> {
  const { cri } = daemon;
  const config = {
    metadata: { name, attempt: 0 },
    image: { image: 'test/busybox:latest' },
    command: ['sh', '-c', script],
    logPath: `${name}.log`,
  };
  const create = cri.CreateContainer({ podSandboxId: pod.id, config });
  const { containerId } = await timed(daemon, `CreateContainer ${name} of ${pod.name}`, create);
  daemon.names.set(containerId, name);
  await timed(daemon, `StartContainer ${name} of ${pod.name}`, cri.StartContainer({ containerId }));
  const { status } = await cri.ContainerStatus({ containerId });
  check(`container ${name}`, status?.state ?? 'nothing', status?.state === 'CONTAINER_RUNNING');
  pod.containers.push(containerId);
  return containerId;
}

async function stopContainer(daemon: RunningDaemon, containerId: string): Promise<void> {
  const { cri } = daemon;
  await timed(daemon, 'StopContainer client', cri.StopContainer({ containerId, timeout: 10 }));
  const { status } = await cri.ContainerStatus({ containerId });
  check('its end', `exit code ${status?.exitCode}, ${status?.reason}`, status?.exitCode === 0);
}

async function removePod(daemon: RunningDaemon, { id, name }: Pod): Promise<void> {
  const { cri } = daemon;
  await timed(daemon, `StopPodSandbox of ${name}`, cri.StopPodSandbox({ podSandboxId: id }));
  await timed(daemon, `RemovePodSandbox of ${name}`, cri.RemovePodSandbox({ podSandboxId: id }));
}

// ---- the kernel's view

async function showKernel({ bridge, subnet }: Places, pods: readonly Pod[]): Promise<void> {
  await show(`ip link show master ${bridge}`);
  await show('ip addr show type bridge', within(bridge));
  for (const { netns } of pods) {
    await show(`ip netns exec ${netns} ip -brief addr`);
    await show(`ip netns exec ${netns} ip route`);
  }
  await show('ip route', line => line.includes(`${subnet}.`));
  const chains = pods.map(({ id }) => id);
  await show('iptables -t nat -S', line => chains.some(id => line.includes(id)));
}

/** Lets the lines of one device pass, where `ip` prints a head line for each and indented ones below it. */
function within(device: string): (line: string) => boolean {
  let isInside = false;
  return line => {
    if (/^\d+: /.test(line)) isInside = line.includes(` ${device}: `);
    return isInside;
  };
}

const attachmentSchema = z.object({ ifName: z.string(), result: z.record(z.string(), z.unknown()) });

async function showPluginResult(daemon: RunningDaemon, { id, name }: Pod): Promise<void> {
  const { cniResult } = await inspect(daemon, id);
  for (const attachment of cniResult) {
    const { ifName, result } = attachmentSchema.parse(attachment);
    say('', `what the plugins answered for ${ifName} of ${name}:`);
    for (const [key, value] of Object.entries(result)) say(`  ${key}: ${JSON.stringify(value)}`);
  }
}

// ---- who reaches whom

async function fetchInside({ cri }: RunningDaemon, containerId: string, url: string): Promise<string> {
  const cmd = ['wget', '-q', '-O', '-', url];
  // The server may need a moment until it listens.
  for (let tries = 1; ; tries++) {
    const { stdout, stderr, exitCode } = await cri.ExecSync({ containerId, cmd, timeout: 5 });
    if (exitCode === 0) return Buffer.from(stdout).toString();
    if (tries === 10) return `exit code ${exitCode}: ${Buffer.from(stderr)}`;
    await sleep(100);
  }
}

async function meetOnLocalhost(daemon: RunningDaemon, client: string): Promise<void> {
  const answer = await fetchInside(daemon, client, 'http://localhost/');
  check('the two containers of web meet on localhost', answer, answer === 'hello from web\n');
}

async function podReachesPod(daemon: RunningDaemon, visitor: string, web: Pod, beside: Pod): Promise<void> {
  const answer = await fetchInside(daemon, visitor, `http://${web.ip}/`);
  check(
    `beside (${beside.ip}) reaches web (${web.ip}) over the bridge`,
    answer,
    answer === 'hello from web\n',
  );
}

async function nodeReachesPod(web: Pod): Promise<void> {
  const answer = await fetch(`http://${web.ip}/`, { signal: AbortSignal.timeout(5000) }).then(response =>
    response.text(),
  );
  check(`the node reaches web (${web.ip})`, answer, answer === 'hello from web\n');
}

async function podReachesOutside(
  daemon: RunningDaemon,
  visitor: string,
  beside: Pod,
  places: Places,
  outside: Outside,
): Promise<void> {
  const answer = await fetchInside(daemon, visitor, `http://${outside.server}/`);
  if (answer !== 'hello from outside\n') await show('iptables -S FORWARD'); // where a node's firewall may drop it
  check(
    `beside (${beside.ip}) reaches the outside (${outside.server})`,
    answer,
    answer === 'hello from outside\n',
  );
  const { all: back } = await execa('ip', ['-n', places.outside.netns, 'route', 'get', beside.ip], {
    all: true,
    reject: false,
  });
  check('the outside has no route to the pod', back, /unreachable/i.test(back));
  const log = outside.log();
  const asked = log.split('\n').find(line => line.includes('url:/')) ?? log;
  check(
    `so it was the masquerade: the server outside was asked by the node (${outside.node})`,
    asked,
    asked.includes(outside.node) && !log.includes(beside.ip),
  );
}

async function showLog({ cri }: RunningDaemon, containerId: string): Promise<void> {
  const { status } = await cri.ContainerStatus({ containerId });
  await show(`cat ${status?.logPath}`, line => line.includes('url:'));
}

// ---- what is left

async function marksOf(daemon: RunningDaemon, places: Places, pods: readonly Pod[]): Promise<string[]> {
  const { bridge, subnet, root, state, directory, cgroupParent, outside } = places;
  const links: string[] = [];
  for (const { id } of pods) {
    const { cniResult } = await inspect(daemon, id);
    const veths = JSON.stringify(cniResult).match(/"veth\w+"/g) ?? [];
    links.push(...veths.map(veth => `${veth.slice(1, -1)}@`));
  }
  const { stdout: rules } = await execa('iptables', ['-t', 'nat', '-S']);
  const chains = rules.split('\n').flatMap(rule => {
    const isOurs = pods.some(({ id }) => rule.includes(id));
    return isOurs ? (/ -j (CNI-\w+)/.exec(rule)?.slice(1) ?? []) : [];
  });
  const ids = pods.flatMap(({ id, netns, containers }) => [id, netns, ...containers]);
  return [
    ...[...ids, ...links, ...chains, ...[root, state, directory].map(path => `${path}/`)],
    ...[
      ` ${bridge}: `,
      ` ${bridge} `,
      `${subnet}.`,
      cgroupParent,
      outside.netns,
      outside.link,
      environmentMark,
    ],
  ];
}

function showRemains(during: Remains, after: Remains, places: Places): void {
  say('                                while it ran   now');
  for (const [kind, found] of Object.entries(after)) {
    say(
      `  ${kind.padEnd(28)}${String(during[kind]?.length ?? 0).padStart(14)}${String(found.length).padStart(6)}`,
    );
  }
  const paths = [places.root, places.state, places.directory, reservationDir(places)];
  const files = [...paths, ...Object.keys(cniFiles(places)).map(name => join(places.cniConfDir, name))];
  const left = [...Object.values(after).flat(), ...files.filter(existsSync)];
  if (left.length > 0) throw new Error(`this was left behind:\n  ${left.join('\n  ')}`);
}
