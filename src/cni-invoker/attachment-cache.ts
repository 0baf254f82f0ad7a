// The record of every attachment, on disk: what DEL, CHECK and GC need to know of the ADD before them.
// Written in libcni's file format (kind cniCacheV1) and layout, <dir>/results/<network>-<container>-<interface>, so
// that its tools read it. Unlike libcni it is written already before ADD runs, without a result: whoever finds
// such a record knows that an ADD was cut short and is to be undone.
// Read and written at once: a record is a small file, and a turn of Node's thread pool takes many times longer.
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { codeOf, messageOf } from '../errors.ts';
import { makeDirectoriesSync } from '../host/directories.ts';
import { CniError } from './errors.ts';
import { type NetworkConfigList, parseNetworkConfig, parseNetworkConfigList } from './network-config.ts';
import type { RuntimeConf } from './plugin-config.ts';
import { decodeResult, type EncodedResult, type Result } from './result.ts';

/** What is recorded of one attachment. */
export interface CachedAttachment extends RuntimeConf {
  network: string;
  /** The configuration that ADD used, whole. */
  config: NetworkConfigList;
  /** Absent while ADD has not succeeded. */
  result: Result | undefined;
  /** Place among the container's attachments: DEL goes from the highest to the lowest. */
  order: number;
}

export interface AttachmentId {
  network: string;
  containerId: string;
  ifName: string;
}

export interface CachedAttachments {
  attachments: CachedAttachment[];
  /** Records that cannot be read; `details.file` names the file. */
  damaged: CniError[];
}

export interface AttachmentIds {
  ids: AttachmentId[];
  /** Records that cannot be read, as in CachedAttachments. */
  damaged: CniError[];
}

export interface AttachmentCache {
  /** Records that an ADD is about to run. @throws CniError already-attached, cache-failed */
  begin(list: NetworkConfigList, rt: RuntimeConf): { order: number };
  /** Records the result of an ADD. `result` is in the version that the configuration declares. */
  complete(list: NetworkConfigList, rt: RuntimeConf, order: number, result: EncodedResult): void;
  get(id: AttachmentId): CachedAttachment | undefined;
  /** Whose attachments are on record. What a record holds is not read, which takes ten times longer. @throws CniError cache-failed */
  ids(): AttachmentIds;
  /** All attachments, or those of one container, in the order of ADD. @throws CniError cache-failed */
  list(containerId?: string): CachedAttachments;
  remove(id: AttachmentId): void;
  /** Removes a record that `list` found damaged. */
  discard(damaged: CniError): void;
  /** Removes what writing a record of the container left when it was killed midway. */
  discardDrafts(containerId: string): void;
}

const recordSchema = z.object({
  kind: z.literal('cniCacheV1'),
  containerId: z.string().min(1),
  /** Base64, as Go writes bytes in JSON. */
  config: z.string(),
  ifName: z.string().min(1),
  networkName: z.string().min(1),
  netns: z.string().default(''),
  cniArgs: z.array(z.tuple([z.string(), z.string()])).nullish(),
  capabilityArgs: z.record(z.string(), z.unknown()).nullish(),
  result: z.record(z.string(), z.unknown()).nullish(),
  /** Not of libcni, whose reader passes over it. */
  order: z.number().int().nonnegative().default(0),
});

const idSchema = recordSchema.pick({ kind: true, networkName: true, containerId: true, ifName: true });

export function createAttachmentCache(cacheDir: string): AttachmentCache {
  const dir = join(cacheDir, 'results');
  // Records in the making stand outside of `results`, where other readers would take them for records.
  const draftDir = join(cacheDir, 'drafts');

  function fileNames(containerId?: string, directory = dir): string[] {
    try {
      const names = readdirSync(directory);
      return containerId === undefined ? names : names.filter(name => name.includes(`-${containerId}-`));
    } catch (thrown) {
      if (codeOf(thrown) === 'ENOENT') return [];
      throw failed('list', directory, thrown);
    }
  }

  function put(list: NetworkConfigList, rt: RuntimeConf, order: number, result?: EncodedResult): void {
    const name = fileNameOf({ network: list.name, containerId: rt.containerId, ifName: rt.ifName });
    const record = {
      kind: 'cniCacheV1',
      containerId: rt.containerId,
      config: Buffer.from(JSON.stringify(list.raw)).toString('base64'),
      ifName: rt.ifName,
      networkName: list.name,
      ...(rt.netns === '' ? {} : { netns: rt.netns }),
      ...(rt.args?.length ? { cniArgs: rt.args } : {}),
      ...(rt.capabilityArgs === undefined ? {} : { capabilityArgs: rt.capabilityArgs }),
      ...(result === undefined ? {} : { result }),
      order,
    } satisfies z.input<typeof recordSchema> | Record<string, unknown>;
    const draft = join(draftDir, name);
    const write = () => {
      writeFileSync(draft, JSON.stringify(record), { mode: 0o600 });
      // Renaming makes it whole or absent for readers and for a daemon that is killed. It is not synced: after a
      // power loss the namespaces that it is about are gone too.
      renameSync(draft, join(dir, name));
    };
    try {
      try {
        write();
      } catch (thrown) {
        if (codeOf(thrown) !== 'ENOENT') throw thrown;
        for (const missing of [dir, draftDir]) makeDirectoriesSync(missing, 0o700);
        write();
      }
    } catch (thrown) {
      throw failed('write', join(dir, name), thrown);
    }
  }

  /** What `read` makes of each record that is there, and the failures. */
  function readEach<T>(names: readonly string[], read: (name: string) => T | undefined) {
    const found: T[] = [];
    const damaged: CniError[] = [];
    for (const name of names) {
      try {
        const one = read(name);
        if (one !== undefined) found.push(one);
      } catch (thrown) {
        if (!(thrown instanceof CniError)) throw thrown;
        damaged.push(thrown);
      }
    }
    return { found, damaged };
  }

  function readAll(names: readonly string[], containerId: string | undefined): CachedAttachments {
    const { found, damaged } = readEach(names, name => readRecord(dir, name));
    const attachments = found
      .filter(record => containerId === undefined || record.containerId === containerId)
      .sort((a, b) => a.order - b.order);
    return { attachments, damaged };
  }

  return {
    begin(network, rt) {
      const names = fileNames(rt.containerId);
      const { attachments: own, damaged } = readAll(names, rt.containerId);
      if (damaged[0] !== undefined) throw damaged[0];
      const twin = own.find(
        // An attachment is (container, interface). Loopback may be configured twice; it makes no interface.
        record => record.ifName === rt.ifName && (record.network === network.name || rt.ifName !== 'lo'),
      );
      if (twin !== undefined) {
        const state = twin.result === undefined ? 'is left of an ADD that did not finish' : 'exists';
        throw new CniError(
          'already-attached',
          `${rt.ifName} of container ${rt.containerId} cannot be added to network ${JSON.stringify(network.name)}: ` +
            `its attachment to ${JSON.stringify(twin.network)} ${state}; DEL it first`,
          { network: network.name, containerId: rt.containerId, ifName: rt.ifName },
        );
      }
      const name = fileNameOf({ network: network.name, containerId: rt.containerId, ifName: rt.ifName });
      if (names.includes(name)) {
        throw new CniError(
          'cache-failed',
          `network ${JSON.stringify(network.name)} and container ${rt.containerId} need the record ${join(dir, name)}, ` +
            'which is that of another network and container whose names run together in the same way',
          { network: network.name, containerId: rt.containerId, ifName: rt.ifName, file: join(dir, name) },
        );
      }
      const order = 1 + Math.max(-1, ...own.map(record => record.order));
      put(network, rt, order);
      return { order };
    },

    complete: put,

    get(id) {
      const record = readRecord(dir, fileNameOf(id));
      const same =
        record?.network === id.network &&
        record.containerId === id.containerId &&
        record.ifName === id.ifName;
      return same ? record : undefined;
    },

    ids() {
      const { found, damaged } = readEach(fileNames(), name => readId(dir, name));
      return { ids: found, damaged };
    },

    list: containerId => readAll(fileNames(containerId), containerId),

    remove: id => removeFile(join(dir, fileNameOf(id))),

    discard(damaged) {
      if (damaged.details.file !== undefined) removeFile(damaged.details.file);
    },

    discardDrafts(containerId) {
      for (const name of fileNames(containerId, draftDir)) removeFile(join(draftDir, name));
    },
  };
}

// Network, container and interface have passed their checks, so that the name stays inside of its directory.
function fileNameOf({ network, containerId, ifName }: AttachmentId): string {
  return `${network}-${containerId}-${ifName}`;
}

function removeFile(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (thrown) {
    throw failed('remove', path, thrown);
  }
}

function readId(dir: string, name: string): AttachmentId | undefined {
  return readFileAs(join(dir, name), value => {
    const { networkName: network, containerId, ifName } = idSchema.parse(value);
    return { network, containerId, ifName };
  });
}

function readRecord(dir: string, name: string): CachedAttachment | undefined {
  return readFileAs(join(dir, name), value => {
    const record = recordSchema.parse(value);
    return {
      network: record.networkName,
      containerId: record.containerId,
      ifName: record.ifName,
      netns: record.netns,
      ...(record.cniArgs ? { args: record.cniArgs } : {}),
      ...(record.capabilityArgs ? { capabilityArgs: record.capabilityArgs } : {}),
      config: parseConfig(Buffer.from(record.config, 'base64').toString('utf8')),
      result: record.result ? decodeResult(record.result) : undefined,
      order: record.order,
    };
  });
}

/** What `decode` makes of a record's JSON; undefined when there is no such file. @throws CniError cache-failed */
function readFileAs<T>(path: string, decode: (value: unknown) => T): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return undefined;
    throw failed('read', path, thrown);
  }
  try {
    return decode(JSON.parse(text));
  } catch (thrown) {
    throw new CniError(
      'cache-failed',
      `the record of an attachment, ${path}, is damaged: ${messageOf(thrown)}; ` +
        'remove the file when its container is gone',
      { file: path, cause: thrown },
    );
  }
}

/** Records of other writers may hold a single plugin's configuration. */
function parseConfig(text: string): NetworkConfigList {
  try {
    return parseNetworkConfigList(text);
  } catch (thrown) {
    if (thrown instanceof CniError && thrown.kind === 'no-plugins') return parseNetworkConfig(text);
    throw thrown;
  }
}

function failed(verb: string, path: string, thrown: unknown): CniError {
  return new CniError(
    'cache-failed',
    `cannot ${verb} the record of an attachment, ${path}: ${messageOf(thrown)}`,
    {
      file: path,
      cause: thrown,
    },
  );
}
