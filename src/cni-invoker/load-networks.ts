// Chooses the networks of a configuration directory: its .conf, .conflist and .json files in the order of their
// names, each one attachment of every container. First in the flow: what is loaded here is what ADD executes.
//
// A file that cannot be used is a problem and not an exception, so that a daemon can start and say why there is no
// network. One problem makes the directory unusable (`usable` is false): skipping the file would give containers
// that lack an interface, silently. Oddities that do not change what is executed as written are warnings.
import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { codeOf, messageOf } from '../errors.ts';
import { CniError, type CniErrorKind } from './errors.ts';
import { findPlugin } from './find-plugin.ts';
import {
  isLoopback,
  type NetworkConfigList,
  type PluginConfig,
  parseNetworkConfig,
  parseNetworkConfigList,
  parsePluginFile,
  withPlugins,
} from './network-config.ts';

/** A network of the directory, with the interface that it gets in every container. */
export interface NetworkAttachmentConfig {
  /** Path of the file. */
  file: string;
  /** `lo` for a network of loopback alone; the others are eth0, eth1, ... in the order of their files. */
  ifName: string;
  network: NetworkConfigList;
}

export interface ConfigProblem {
  /** Path of the file, or of the directory when the problem is with it. */
  file: string;
  kind: CniErrorKind;
  /** A sentence that names the file. */
  reason: string;
}

export interface ConfigWarning {
  file: string;
  reason: string;
}

export interface LoadedNetworks {
  /** In the order of execution. */
  networks: readonly NetworkAttachmentConfig[];
  problems: readonly ConfigProblem[];
  warnings: readonly ConfigWarning[];
  /** True when there is a network and no problem. */
  usable: boolean;
}

export interface LoadOptions {
  confDir: string;
  /** Directories with plugin executables (CNI_PATH). */
  binDirs: readonly string[];
  /** How many files are used, in order; 0 or absent: all. */
  maxConfNum?: number | undefined;
}

const extensions = ['.conf', '.conflist', '.json'];
const reservedKeys = ['runtimeConfig', 'args', 'prevResult'];

/** Reads `confDir`. Does not throw for anything that is in it, nor when it is absent. */
export async function loadNetworks(options: LoadOptions): Promise<LoadedNetworks> {
  const { confDir, maxConfNum = 0 } = options;
  const warnings: ConfigWarning[] = [];
  const listing = await configFiles(confDir);
  if ('problem' in listing) return { networks: [], problems: [listing.problem], warnings, usable: false };
  const files = listing.files.filter(file => {
    if (!file.hidden) return true;
    warnings.push({ file: file.path, reason: `${file.path} is a hidden file and is not used` });
    return false;
  });
  const used = maxConfNum > 0 ? files.slice(0, maxConfNum) : files;
  for (const { path } of files.slice(used.length)) {
    warnings.push({ file: path, reason: `${path} is beyond max_conf_num (${maxConfNum}) and is not used` });
  }
  if (used.length === 0) {
    const reason = `no network is configured: ${confDir} holds no .conf, .conflist or .json file`;
    return {
      networks: [],
      problems: [{ file: confDir, kind: 'no-configuration', reason }],
      warnings,
      usable: false,
    };
  }

  const loaded = await Promise.all(used.map(({ path }) => loadFile(path, options)));
  const networks: NetworkAttachmentConfig[] = [];
  const problems: ConfigProblem[] = [];
  const fileOf = new Map<string, string>();
  let ethernets = 0;
  for (const { path, network, errors } of loaded) {
    problems.push(...errors.map(error => problemOf(path, error)));
    if (network === undefined) continue;
    warnings.push(...oddities(path, network));
    const twin = fileOf.get(network.name);
    if (twin !== undefined) {
      const error = new CniError(
        'duplicate-name',
        `has the name ${JSON.stringify(network.name)}, which ${twin} has already; every network needs its own`,
      );
      problems.push(problemOf(path, error));
      continue;
    }
    fileOf.set(network.name, path);
    networks.push({ file: path, network, ifName: isLoopback(network) ? 'lo' : `eth${ethernets++}` });
  }
  if (problems.length === 0 && ethernets === 0) {
    const reason = `${confDir} configures loopback alone: containers get no address`;
    warnings.push({ file: confDir, reason });
  }
  return { networks, problems, warnings, usable: problems.length === 0 };
}

interface ConfigFile {
  path: string;
  hidden: boolean;
}

async function configFiles(confDir: string): Promise<{ files: ConfigFile[] } | { problem: ConfigProblem }> {
  try {
    const entries = await readdir(confDir, { withFileTypes: true });
    const files = entries
      .filter(entry => !entry.isDirectory() && extensions.includes(extensionOf(entry.name)))
      .sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
      .map(entry => ({ path: join(confDir, entry.name), hidden: entry.name.startsWith('.') }));
    return { files };
  } catch (thrown) {
    const absent = codeOf(thrown) === 'ENOENT';
    return {
      problem: {
        file: confDir,
        kind: absent ? 'no-configuration' : 'unreadable-config',
        reason: absent
          ? `no network is configured: the directory ${confDir} does not exist`
          : `the CNI configuration directory ${confDir} cannot be read: ${messageOf(thrown)}`,
      },
    };
  }
}

function extensionOf(name: string): string {
  return extname(name) || name;
}

interface LoadedFile {
  path: string;
  network?: NetworkConfigList;
  errors: CniError[];
}

async function loadFile(path: string, options: LoadOptions): Promise<LoadedFile> {
  try {
    const network = await readNetwork(path, options.confDir);
    const types = [...new Set(network.plugins.map(plugin => plugin.type))];
    const errors = types.flatMap(type => {
      try {
        findPlugin(type, options.binDirs);
        return [];
      } catch (thrown) {
        return cniErrors(thrown);
      }
    });
    return { path, network, errors };
  } catch (thrown) {
    return { path, errors: cniErrors(thrown) };
  }
}

/** Reads one configuration file with what belongs to it. @throws CniError of a configuration kind */
export async function readNetwork(path: string, confDir: string): Promise<NetworkConfigList> {
  const text = await readConfig(path);
  if (extensionOf(path) !== '.conflist') return parseNetworkConfig(text);
  const list = parseNetworkConfigList(text);
  const network = list.loadOnlyInlinedPlugins
    ? list
    : withPlugins(list, await readPluginFolder(join(confDir, list.name)));
  if (network.plugins.length === 0) {
    throw new CniError(
      'no-plugins',
      `has no \`plugins\`, and there are none in ${join(confDir, list.name)}/*.conf either`,
    );
  }
  return network;
}

/** The plugins that stand in files of their own, in the folder named as the network (spec section 1). */
async function readPluginFolder(folder: string): Promise<PluginConfig[]> {
  const listing = await configFiles(folder);
  if ('problem' in listing) {
    if (listing.problem.kind === 'no-configuration') return [];
    throw new CniError(
      'unreadable-config',
      `has a plugin folder that is not usable: ${listing.problem.reason}`,
    );
  }
  const files = listing.files.filter(file => !file.hidden && extensionOf(file.path) === '.conf');
  return Promise.all(
    files.map(async ({ path }) => {
      try {
        return parsePluginFile(await readConfig(path));
      } catch (thrown) {
        if (!(thrown instanceof CniError)) throw thrown;
        throw new CniError(thrown.kind, `has a plugin file that is not usable: ${path} ${thrown.message}`, {
          cause: thrown,
        });
      }
    }),
  );
}

async function readConfig(path: string): Promise<string> {
  try {
    // Anything but a regular file (a pipe, a device) could keep the reader waiting for ever.
    if (!(await stat(path)).isFile()) throw new CniError('unreadable-config', 'is not a regular file');
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if (thrown instanceof CniError) throw thrown;
    throw new CniError('unreadable-config', `cannot be read: ${messageOf(thrown)}`, { cause: thrown });
  }
}

function oddities(path: string, network: NetworkConfigList): ConfigWarning[] {
  return network.plugins.flatMap(plugin =>
    Object.keys(plugin.raw)
      .filter(key => reservedKeys.includes(key) || key.startsWith('cni.dev/'))
      .map(key => ({
        file: path,
        reason: `${path}: the plugin ${plugin.type} sets the key ${JSON.stringify(key)}, which is reserved for the runtime`,
      })),
  );
}

function problemOf(file: string, error: CniError): ConfigProblem {
  // The parser's messages are clauses ("has no `name`"); those about a plugin's executable are sentences.
  const link = error.kind.startsWith('plugin-not-') ? ': ' : ' ';
  return { file, kind: error.kind, reason: `${file}${link}${error.message}` };
}

function cniErrors(thrown: unknown): CniError[] {
  return [
    thrown instanceof CniError
      ? thrown
      : new CniError('invalid-config', messageOf(thrown), { cause: thrown }),
  ];
}
