// The pod network: which CNI files will be invoked, on which interfaces, whether their plugins are there and
// speak a version of the specification in common.

import type { LoadedNetworks } from '../../cni-invoker/index.ts';
import { messageOf } from '../../errors.ts';
import { type Check, type Finding, fail, info, ok, warn } from '../finding.ts';
import type { HostView } from '../host-view.ts';

interface NetworkSource {
  readonly confDir: string;
  readonly maxConfNum: number;
  /** Runtime handlers whose pods are attached by it; undefined = all that have no directory of their own. */
  readonly handler: string | undefined;
}

export const cniConfiguration: Check = {
  name: 'CNI configuration',
  run: async (host, config) => {
    const { confDir, maxConfNum, binDirs } = config.cni;
    const sources: NetworkSource[] = [{ confDir, maxConfNum, handler: undefined }];
    for (const { name, cniConfDir, cniMaxConfNum } of config.runtimes.handlers.values()) {
      if (cniConfDir !== undefined)
        sources.push({ confDir: cniConfDir, maxConfNum: cniMaxConfNum, handler: name });
    }
    const reports = await Promise.all(
      sources.map(async source => {
        const loaded = await host.loadNetworks({
          confDir: source.confDir,
          maxConfNum: source.maxConfNum,
          binDirs,
        });
        return [...describe(source, loaded), ...(await judgeVersions(host, loaded, binDirs))];
      }),
    );
    return reports.flat();
  },
};

function describe(source: NetworkSource, loaded: LoadedNetworks): Finding[] {
  return [
    ...describeNetworks(source, loaded),
    ...loaded.problems.map(problem => judgeProblem(source, problem)),
    ...loaded.warnings.map(({ reason }) => info(reason, 'the rest of the directory is used as it stands')),
  ];
}

function describeNetworks(source: NetworkSource, { networks }: LoadedNetworks): Finding[] {
  const [first, ...others] = networks;
  if (first === undefined) return [];
  const pods = source.handler === undefined ? 'each pod' : `each pod of the runtime ${source.handler}`;
  const files = networks.map(
    ({ file, ifName, network }) =>
      `${file} (${network.plugins.map(({ type }) => type).join(', ')}) as ${ifName}`,
  );
  const invoked = ok(
    `invoked for ${pods}, in this order: ${files.join('; ')}`,
    'they make the network of the pod',
  );
  if (others.length === 0) return [invoked];
  return [
    invoked,
    info(
      `containerd, with its default max_conf_num = 1, would invoke the first alone: ${first.file}`,
      'a node that comes from containerd may hold files that were never invoked there',
      'Set cni.max_conf_num = 1 for the first alone, or move the files that are not wanted out of the directory.',
    ),
  ];
}

function judgeProblem(source: NetworkSource, { kind, reason }: LoadedNetworks['problems'][number]): Finding {
  if (kind === 'no-configuration') {
    return warn(
      reason,
      'until there is a network the node is not ready (NetworkReady is false); add-ons bring their own file',
      `Install a network add-on, or write a network list into ${source.confDir}.`,
    );
  }
  return fail(
    reason,
    'while one file cannot be used, the node has no pod network (NetworkReady is false)',
    kind === 'plugin-not-found'
      ? 'apt install containernetworking-plugins, or add the directory that has the plugin to cni.bin_dirs.'
      : 'Correct the file, or move it out of the directory.',
  );
}

/** Each plugin with the versions it supports, and each network's common version. */
async function judgeVersions(
  host: HostView,
  loaded: LoadedNetworks,
  binDirs: readonly string[],
): Promise<Finding[]> {
  const types = new Set(
    loaded.networks.flatMap(({ network }) =>
      network.plugins.flatMap(({ type, ipamType }) => (ipamType === undefined ? [type] : [type, ipamType])),
    ),
  );
  const plugins = await Promise.all([...types].map(type => judgePlugin(host, type, binDirs)));
  const networks = await Promise.all(
    loaded.networks.map(async ({ file, network }): Promise<Finding[]> => {
      try {
        const agreed = await host.agreedVersion(network, binDirs);
        if (network.cniVersions.includes(agreed as (typeof network.cniVersions)[number])) return [];
        return [
          info(
            `${file} asks for CNI ${network.cniVersion}; its plugins are spoken to in ${agreed}`,
            'the plugins installed are older than the file',
            'apt install containernetworking-plugins of a newer release, when features of the newer version are wanted.',
          ),
        ];
      } catch (error) {
        return [
          fail(
            messageOf(error),
            'plugins refuse configurations of versions they do not know',
            `Lower cniVersion in ${file}, or install newer plugins.`,
          ),
        ];
      }
    }),
  );
  return [...plugins, ...networks.flat()];
}

async function judgePlugin(host: HostView, type: string, binDirs: readonly string[]): Promise<Finding> {
  const why = 'the CNI configuration names it';
  try {
    const versions = await host.pluginVersions(type, binDirs);
    return ok(`plugin ${type}: CNI ${versions[0]} to ${versions.at(-1)}`, why);
  } catch (error) {
    return warn(
      `plugin ${type}: ${messageOf(error)}`,
      why,
      `Install ${type} into one of ${binDirs.join(', ')} (Debian: apt install containernetworking-plugins).`,
    );
  }
}
