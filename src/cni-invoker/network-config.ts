// The network configuration format (spec section 1): text of a file -> NetworkConfigList.
// A `.conflist` file holds a list; a `.conf` or `.json` file holds one plugin and becomes a list of one.
import { z } from 'zod';
import { messageOf } from '../errors.ts';
import { CniError } from './errors.ts';
import { highestKnown, isSpecVersion, type SpecVersion, versionWhenAbsent } from './versions.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** A plugin configuration object. */
export interface PluginConfig {
  /** File name of the plugin's executable. */
  type: string;
  /** Capabilities the plugin declares; those that are true receive their capability argument in runtimeConfig. */
  capabilities: Readonly<Record<string, boolean>>;
  /** File name of the IPAM plugin it delegates to, when it names one. */
  ipamType: string | undefined;
  /** The whole object, as it stands in the file; plugins receive also the keys that are not known here. */
  raw: JsonObject;
}

/** A network configuration: the plugins that are executed, in this order, for one attachment. */
export interface NetworkConfigList {
  name: string;
  /** The highest declared version that is known here. */
  cniVersion: SpecVersion;
  /** Every declared version that is known here (`cniVersion` and `cniVersions`). */
  cniVersions: readonly SpecVersion[];
  disableCheck: boolean;
  disableGC: boolean;
  loadOnlyInlinedPlugins: boolean;
  plugins: readonly PluginConfig[];
  /** The whole object, as it stands in the file. */
  raw: JsonObject;
}

const nameSchema = z.unknown().optional();
const flagSchema = z
  .union([
    z.boolean(),
    z
      .string()
      .toLowerCase()
      .pipe(z.enum(['true', 'false'])),
  ])
  .default(false)
  .transform(flag => flag === true || flag === 'true');

const pluginSchema = z.looseObject({
  type: z.unknown().optional(),
  capabilities: z.record(z.string(), z.boolean()).nullish(),
  ipam: z.looseObject({ type: z.unknown().optional() }).nullish(),
});

const listSchema = z.looseObject({
  name: nameSchema,
  cniVersion: z.string().optional(),
  cniVersions: z.array(z.string()).optional(),
  disableCheck: flagSchema,
  disableGC: flagSchema,
  loadOnlyInlinedPlugins: flagSchema,
  plugins: z.array(z.unknown()).optional(),
});

const confSchema = z.looseObject({ name: nameSchema, cniVersion: z.string().optional() });

/**
 * Reads the text of a `.conflist` file. The list may have no plugins yet: unless it sets loadOnlyInlinedPlugins,
 * more come from the folder of its name.
 * @throws CniError of a configuration kind; the message is a clause that follows the file's name.
 */
export function parseNetworkConfigList(text: string): NetworkConfigList {
  const raw = parseObject(text);
  const list = check(listSchema, raw);
  if (list.plugins === undefined && 'type' in raw) {
    throw new CniError(
      'no-plugins',
      'has `type` but no `plugins`: it is one plugin and not a list; name it .conf, or put the plugin in a list',
    );
  }
  if (list.plugins === undefined && list.loadOnlyInlinedPlugins) {
    throw new CniError('no-plugins', 'sets `loadOnlyInlinedPlugins` but has no `plugins`');
  }
  if (list.plugins?.length === 0) throw new CniError('no-plugins', 'has an empty `plugins` list');
  const cniVersions = parseVersions(list.cniVersion, list.cniVersions);
  return {
    name: parseName(list.name),
    ...cniVersions,
    disableCheck: list.disableCheck,
    disableGC: list.disableGC,
    loadOnlyInlinedPlugins: list.loadOnlyInlinedPlugins,
    plugins: (list.plugins ?? []).map((plugin, index) => parsePlugin(plugin, `plugins[${index}]`)),
    raw,
  };
}

/**
 * Reads the text of a `.conf` or `.json` file: one plugin, which becomes a list of one.
 * @throws CniError of a configuration kind; the message is a clause that follows the file's name.
 */
export function parseNetworkConfig(text: string): NetworkConfigList {
  const raw = parseObject(text);
  if ('plugins' in raw && !('type' in raw)) {
    throw new CniError('no-type', 'has `plugins` but no `type`: it is a list; name it .conflist');
  }
  const conf = check(confSchema, raw);
  const plugin = parsePlugin(raw, '');
  const name = parseName(conf.name);
  const versions = parseVersions(conf.cniVersion, undefined);
  return {
    name,
    ...versions,
    disableCheck: false,
    disableGC: false,
    loadOnlyInlinedPlugins: true,
    plugins: [plugin],
    raw: { cniVersion: versions.cniVersion, name, plugins: [raw] },
  };
}

/** Reads the text of a file of a network's plugin folder: one plugin configuration object. */
export function parsePluginFile(text: string): PluginConfig {
  return parsePlugin(parseObject(text), '');
}

/** The list with further plugins at its end, as if they stood in the file. */
export function withPlugins(list: NetworkConfigList, more: readonly PluginConfig[]): NetworkConfigList {
  if (more.length === 0) return list;
  const plugins = [...list.plugins, ...more];
  return { ...list, plugins, raw: { ...list.raw, plugins: plugins.map(plugin => plugin.raw) } };
}

/** True for a network that only brings up the container's own loopback interface. */
export function isLoopback(list: NetworkConfigList): boolean {
  return list.plugins.length > 0 && list.plugins.every(plugin => plugin.type === 'loopback');
}

const validName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** The rule for network names and container ids (spec sections 1 and 2); it also makes them safe in file names. */
export function isValidName(name: string): boolean {
  return validName.test(name);
}

function parseName(name: unknown): string {
  if (name === undefined || name === '') throw new CniError('no-name', 'has no `name`');
  if (typeof name !== 'string' || !isValidName(name)) {
    throw new CniError(
      'invalid-name',
      `has the name ${JSON.stringify(name)}; allowed are letters, digits, "_", "." and "-", ` +
        'the first being a letter or digit',
    );
  }
  return name;
}

function parseVersions(
  cniVersion: string | undefined,
  cniVersions: readonly string[] | undefined,
): { cniVersion: SpecVersion; cniVersions: SpecVersion[] } {
  const declared = [...(cniVersions ?? []), ...(cniVersion ? [cniVersion] : [])];
  if (declared.length === 0) declared.push(versionWhenAbsent);
  const highest = highestKnown(declared);
  if (highest === undefined) {
    throw new CniError(
      'unsupported-version',
      `declares cniVersion ${declared.map(version => JSON.stringify(version)).join(', ')}; ` +
        'supported are 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0',
    );
  }
  return { cniVersion: highest, cniVersions: declared.filter(isSpecVersion) };
}

function parsePlugin(value: unknown, place: string): PluginConfig {
  const at = place === '' ? '' : `at ${place} `;
  if (!isObject(value)) throw new CniError('invalid-config', `${at}must be an object`.trim());
  const plugin = check(pluginSchema, value, place);
  const type = plugin.type;
  if (type === undefined || type === '') {
    throw new CniError('no-type', `${at}has no \`type\`, so there is no plugin to execute`);
  }
  if (typeof type !== 'string' || !isFileName(type)) {
    throw new CniError(
      'invalid-type',
      `${at}has the type ${JSON.stringify(type)}; it must be the plain file name of a plugin`,
    );
  }
  const ipamType = plugin.ipam?.type;
  return {
    type,
    capabilities: plugin.capabilities ?? {},
    ipamType: typeof ipamType === 'string' && isFileName(ipamType) ? ipamType : undefined,
    raw: value,
  };
}

function isFileName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name);
}

function parseObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (thrown) {
    throw new CniError('invalid-json', `is not valid JSON: ${messageOf(thrown)}`, { cause: thrown });
  }
  if (!isObject(value)) throw new CniError('invalid-json', 'must hold a JSON object');
  return value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function check<S extends z.ZodType>(schema: S, value: unknown, place = ''): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const words = parsed.error.issues.map(issue => {
    const path = [place, ...issue.path].filter(part => part !== '').join('.');
    return `${path}: ${issue.message}`;
  });
  throw new CniError('invalid-config', `is not a network configuration: ${words.join('; ')}`);
}
