// `cri-ts cni`: runs the CNI invoker by hand, as cnitool does, on a namespace of your own making:
//   ip netns add blue && cri-ts cni add /var/run/netns/blue
// Useful to see what a configuration directory does before pods depend on it.
import { createHash } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import {
  type Attachment,
  type CachedAttachment,
  CniError,
  createInvoker,
  encodeResult,
  type Invoker,
  isLiveNetns,
  type LoadedNetworks,
  loadNetworks,
  type NetworkAttachmentConfig,
  type PluginRun,
} from '../cni-invoker/index.ts';
import { messageOf } from '../errors.ts';

interface CniFlags {
  confDir: string;
  binDir: string[];
  cacheDir: string;
  maxConfNum: number;
  network?: string;
  timeout: number;
  trace?: true;
}

interface AttachmentFlags extends CniFlags {
  containerId?: string;
  ifname?: string;
  args?: string;
  capabilityArgs?: string;
}

interface GcFlags extends CniFlags {
  keep: string[];
}

/** The command with its subcommands; each prints JSON on stdout, and on failure a JSON error on stderr with exit code 1. */
export function cniCommand(): Command {
  const cni = new Command('cni').description(
    'run the configured CNI networks on a network namespace by hand',
  );

  attachmentCommand(cni, 'add', 'ADD: attach the namespace to every configured network')
    .addHelpText('after', '\nWith --network, prints the plain result; otherwise a list of all attachments.')
    .action(action(add));
  attachmentCommand(cni, 'del', 'DEL: detach the namespace again, in reverse order').action(action(del));
  attachmentCommand(cni, 'check', 'CHECK: ask the plugins whether the attachments are in order').action(
    action(check),
  );
  shared(
    cni.command('status').description('STATUS: what is configured, and whether the plugins are ready'),
  ).action((flags: CniFlags) => reporting(() => status(flags)));
  shared(
    cni
      .command('gc')
      .description('GC: remove attachments whose namespace is gone, and what plugins know of them'),
  )
    .option(
      '--keep <id[/ifname]>',
      'a container or attachment that is to stay whatever its namespace',
      collect,
      [],
    )
    .action((flags: GcFlags) => reporting(() => gc(flags)));
  return cni;
}

function shared(command: Command): Command {
  return command
    .option(
      '--conf-dir <dir>',
      'directory of CNI configuration files',
      process.env.NETCONFPATH ?? '/etc/cni/net.d',
    )
    .option(
      '--bin-dir <dirs>',
      'directories of CNI plugins, separated by colons',
      value => value.split(':').filter(Boolean),
      (process.env.CNI_PATH ?? '/opt/cni/bin:/usr/lib/cni').split(':').filter(Boolean),
    )
    .option('--cache-dir <dir>', 'directory of attachment records', '/var/lib/cri-ts/cni-by-hand')
    .option('--max-conf-num <n>', 'use only the first n configuration files; 0 = all', wholeNumber, 0)
    .option('--network <name>', 'only this network')
    .option('--timeout <ms>', 'milliseconds that one plugin may take', wholeNumber, 120_000)
    .option('--trace', 'print every execution of a plugin on stderr: environment, input, output, time');
}

function attachmentCommand(parent: Command, name: string, description: string): Command {
  return shared(
    parent.command(name).description(description).argument('<netns>', 'path of the network namespace'),
  )
    .option('--container-id <id>', 'container id (default: made from the path)')
    .option('--ifname <name>', 'interface name (with --network; default: by the order of files)')
    .option('--args <pairs>', 'CNI_ARGS: KEY=VALUE;KEY=VALUE', process.env.CNI_ARGS)
    .option('--capability-args <json>', 'capability arguments: a JSON object', process.env.CAP_ARGS);
}

type AttachmentAction = (netns: string, flags: AttachmentFlags, tool: Tool) => Promise<unknown>;

/** What an action needs, made of its flags. */
interface Tool {
  invoker: Invoker;
  loaded: LoadedNetworks;
  networks: readonly NetworkAttachmentConfig[];
}

function action(run: AttachmentAction) {
  return (netns: string, flags: AttachmentFlags) =>
    reporting(async () => run(netns, flags, await toolFor(flags)));
}

async function add(
  netns: string,
  flags: AttachmentFlags,
  { invoker, loaded, networks }: Tool,
): Promise<unknown> {
  const problem = loaded.problems.find(
    ({ file }) => flags.network === undefined || networks.some(network => network.file === file),
  );
  if (problem !== undefined) throw new CniError(problem.kind, problem.reason);
  const attachments = await invoker.addAll(networks, containerOf(netns, flags));
  const printed = attachments.map(attachment => ({
    ...attachment,
    result: inDeclaredVersion(attachment, networks),
  }));
  return flags.network === undefined ? printed : printed[0]?.result;
}

async function del(netns: string, flags: AttachmentFlags, { invoker, networks }: Tool): Promise<unknown> {
  const container = containerOf(netns, flags);
  if (flags.network === undefined) {
    await invoker.delAll(container, networks);
    return undefined;
  }
  for (const { network, ifName } of networks) await invoker.del(network, { ...container, ifName });
  return undefined;
}

async function check(netns: string, flags: AttachmentFlags, { invoker, networks }: Tool): Promise<unknown> {
  const container = containerOf(netns, flags);
  const checked = [];
  for (const { network, ifName } of networks) {
    const outcome = await invoker.check(network, { ...container, ifName });
    checked.push({ network: network.name, ifName, outcome });
  }
  return checked;
}

async function status(flags: CniFlags): Promise<unknown> {
  const { invoker, loaded, networks } = await toolFor(flags);
  const reports = await Promise.all(
    networks.map(async ({ file, ifName, network }) => {
      const versions = await invoker.prepare(network).catch(() => undefined);
      const [error] = await invoker.statusAll([{ file, ifName, network }]);
      return {
        network: network.name,
        ifName,
        file,
        plugins: network.plugins.map(plugin => plugin.type),
        cniVersion: network.cniVersion,
        executedAs: versions,
        ready: error === undefined,
        ...(error === undefined ? {} : { error: error.message }),
      };
    }),
  );
  const { problems, warnings } = loaded;
  const ready = loaded.usable && reports.every(report => report.ready);
  if (!ready) process.exitCode = 1;
  return { ready, networks: reports, problems, warnings };
}

async function gc(flags: GcFlags): Promise<unknown> {
  const { invoker, networks } = await toolFor(flags);
  const { attachments } = await invoker.cachedAttachments();
  const kept: CachedAttachment[] = [];
  for (const attachment of attachments) {
    const { containerId, ifName, netns } = attachment;
    const named = flags.keep.includes(containerId) || flags.keep.includes(`${containerId}/${ifName}`);
    if (named || isLiveNetns(netns)) kept.push(attachment);
  }
  if (flags.network === undefined) await invoker.gcAll(networks, kept);
  else for (const { network } of networks) await invoker.gc(network, kept);
  return { kept: kept.map(({ network, containerId, ifName }) => ({ network, containerId, ifName })) };
}

async function toolFor(flags: AttachmentFlags): Promise<Tool> {
  const loaded = await loadNetworks({
    confDir: flags.confDir,
    binDirs: flags.binDir,
    maxConfNum: flags.maxConfNum,
  });
  const invoker = createInvoker({
    binDirs: flags.binDir,
    cacheDir: flags.cacheDir,
    pluginTimeoutMs: flags.timeout,
    onPluginRun: flags.trace ? trace : undefined,
  });
  return { invoker, loaded, networks: chosen(loaded, flags) };
}

function chosen(loaded: LoadedNetworks, flags: AttachmentFlags): readonly NetworkAttachmentConfig[] {
  if (flags.network === undefined) {
    if (flags.ifname === undefined) return loaded.networks;
    throw new CniError('invalid-argument', '--ifname needs --network: every network has its own interface');
  }
  const one = loaded.networks.find(({ network }) => network.name === flags.network);
  if (one === undefined) {
    const names = loaded.networks.map(({ network }) => network.name).join(', ') || 'none';
    throw new CniError(
      'invalid-argument',
      `there is no network ${JSON.stringify(flags.network)} in ${flags.confDir}; there are: ${names}`,
    );
  }
  return [{ ...one, ifName: flags.ifname ?? one.ifName }];
}

function containerOf(netns: string, flags: AttachmentFlags) {
  // The same path gives the same id, so that del and check find what add did.
  const fromPath = createHash('sha256').update(netns).digest('hex').slice(0, 20);
  return {
    containerId: flags.containerId ?? `by-hand-${fromPath}`,
    netns,
    args: (flags.args ?? '')
      .split(';')
      .filter(Boolean)
      .map(pair => argument(pair)),
    capabilityArgs: capabilityArguments(flags.capabilityArgs),
  };
}

function argument(pair: string): [string, string] {
  const at = pair.indexOf('=');
  if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
  throw new CniError('invalid-argument', `--args: ${JSON.stringify(pair)} is not KEY=VALUE`);
}

function capabilityArguments(json: string | undefined): Record<string, unknown> {
  if (json === undefined || json === '') return {};
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
    throw new Error('it is not an object');
  } catch (thrown) {
    throw new CniError('invalid-argument', `--capability-args is not a JSON object: ${messageOf(thrown)}`);
  }
}

function inDeclaredVersion(attachment: Attachment, networks: readonly NetworkAttachmentConfig[]): unknown {
  const config = networks.find(({ network }) => network.name === attachment.network);
  return encodeResult(attachment.result, config?.network.cniVersion ?? attachment.result.cniVersion);
}

function trace(run: PluginRun): void {
  const { error, ...rest } = run;
  print(process.stderr, { ...rest, error: error?.message });
}

async function reporting(work: () => Promise<unknown>): Promise<void> {
  try {
    const value = await work();
    if (value !== undefined) print(process.stdout, value);
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown;
    const { cause: _, others, ...details } = thrown.details;
    print(process.stderr, { kind: thrown.kind, message: thrown.message, ...details });
    process.exitCode = 1;
  }
}

function print(stream: NodeJS.WriteStream, value: unknown): void {
  stream.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

function wholeNumber(value: string): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && Number.isSafeInteger(number)) return number;
  throw new InvalidArgumentError('It must be a whole number.');
}
