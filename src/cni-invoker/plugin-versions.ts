// What versions a plugin's executable supports (the VERSION operation), asked once for each executable and
// remembered until the file changes, so that ADD does not pay for it.
import { z } from 'zod';
import { messageOf } from '../errors.ts';
import { CniError } from './errors.ts';
import type { ExecutePlugin } from './execute-plugin.ts';
import { findPlugin, type PluginBinary } from './find-plugin.ts';
import type { NetworkConfigList } from './network-config.ts';
import { parameters } from './plugin-config.ts';
import { currentVersion, negotiate, type SpecVersion } from './versions.ts';

/** The answer to VERSION (spec section 5, "VERSION Success"). */
export interface PluginInfo {
  path: string;
  supportedVersions: readonly string[];
}

/** A network ready to be executed: its plugins' executables, in the list's order, and the version to speak. */
export interface ResolvedNetwork {
  binaries: readonly PluginBinary[];
  cniVersion: SpecVersion;
}

export interface PluginVersions {
  /** @throws CniError plugin-not-found, or as executePlugin for a plugin that does not answer */
  version(type: string, signal?: AbortSignal): Promise<PluginInfo>;
  /** @throws CniError plugin-not-found, plugin-not-executable, incompatible-version */
  resolve(list: NetworkConfigList): Promise<ResolvedNetwork>;
}

const probeTimeoutMs = 10_000;

const versionSchema = z.object({
  cniVersion: z.string(),
  supportedVersions: z.array(z.string()).optional(),
});

export function createPluginVersions(binDirs: readonly string[], execute: ExecutePlugin): PluginVersions {
  interface Probe {
    fingerprint: string;
    versions: Promise<readonly string[]>;
  }
  const probes = new Map<string, Probe>();

  async function probe(binary: PluginBinary, signal?: AbortSignal): Promise<readonly string[]> {
    // The attachment parameters are empty words that plugins of the oldest versions insist on.
    const environment = {
      ...parameters('VERSION', binDirs),
      CNI_CONTAINERID: 'dummy',
      CNI_NETNS: 'dummy',
      CNI_IFNAME: 'dummy',
    };
    try {
      return await execute({
        verb: 'VERSION',
        binary,
        environment,
        config: { cniVersion: currentVersion },
        signal,
        timeoutMs: probeTimeoutMs,
        decode: parseVersionResult,
      });
    } catch (thrown) {
      if (thrown instanceof CniError && thrown.details.pluginError?.msg === 'unknown CNI_COMMAND: VERSION') {
        return ['0.1.0']; // The operation came with 0.2.0.
      }
      throw thrown;
    }
  }

  function versionsOf(binary: PluginBinary): Promise<readonly string[]> {
    const known = probes.get(binary.path);
    if (known?.fingerprint === binary.fingerprint) return known.versions;
    const versions = probe(binary);
    probes.set(binary.path, { fingerprint: binary.fingerprint, versions });
    versions.catch((thrown: unknown) => {
      // A refusal is the plugin's nature and is remembered; an accident is not.
      const refused = thrown instanceof CniError && ['plugin-failed', 'invalid-result'].includes(thrown.kind);
      if (!refused && probes.get(binary.path)?.versions === versions) probes.delete(binary.path);
    });
    return versions;
  }

  return {
    async version(type, signal) {
      const binary = findPlugin(type, binDirs);
      return { path: binary.path, supportedVersions: await probe(binary, signal) };
    },

    async resolve(list) {
      const binaries = list.plugins.map(plugin => findPlugin(plugin.type, binDirs));
      const delegates = findDelegates(list, binDirs);
      const all = [...new Map([...binaries, ...delegates].map(binary => [binary.path, binary])).values()];
      // A plugin that does not answer VERSION may still do its work: it is taken at the configuration's word.
      const answers = await Promise.all(all.map(binary => versionsOf(binary).catch(() => undefined)));
      const supported = answers.filter(versions => versions !== undefined);
      const cniVersion = negotiate(list.cniVersions, supported);
      if (cniVersion === undefined) {
        const words = all.map(
          (binary, i) => `${binary.type} supports ${answers[i]?.join(', ') ?? 'unknown versions'}`,
        );
        throw new CniError(
          'incompatible-version',
          `network ${JSON.stringify(list.name)} declares cniVersion ${list.cniVersions.join(', ')}, ` +
            `but its plugins do not share it: ${words.join('; ')}`,
          { network: list.name },
        );
      }
      return { binaries, cniVersion };
    },
  };
}

/** IPAM plugins get the same configuration from the plugin that calls them, so their versions count too. */
function findDelegates(list: NetworkConfigList, binDirs: readonly string[]): PluginBinary[] {
  const types = new Set(list.plugins.flatMap(plugin => plugin.ipamType ?? []));
  return [...types].flatMap(type => {
    try {
      return [findPlugin(type, binDirs)];
    } catch {
      return []; // For the plugin to report: some types are names for what the plugin does itself.
    }
  });
}

function parseVersionResult(stdout: string): readonly string[] {
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch (thrown) {
    throw new CniError('invalid-result', `is not JSON: ${messageOf(thrown)}`);
  }
  const parsed = versionSchema.safeParse(value);
  if (!parsed.success)
    throw new CniError('invalid-result', 'is not an answer to VERSION: it lacks cniVersion');
  if (parsed.data.supportedVersions?.length) return parsed.data.supportedVersions;
  if (parsed.data.cniVersion === '0.2.0') return ['0.1.0', '0.2.0']; // That version had no such list yet.
  throw new CniError('invalid-result', 'is not an answer to VERSION: it lacks supportedVersions');
}
