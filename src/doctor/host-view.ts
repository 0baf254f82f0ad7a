// The doctor's eyes: everything a check may see of the node. Reading only; tests put a made-up node in its place.
import {
  accessSync,
  constants,
  readdirSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { createConnection } from 'node:net';
import { release } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import {
  createInvoker,
  type LoadedNetworks,
  type LoadOptions,
  loadNetworks,
  type NetworkConfigList,
} from '../cni-invoker/index.ts';
import { codeOf, messageOf } from '../errors.ts';
import { defaultPath } from '../host/executables.ts';
import { type RunResult, run } from '../host/process.ts';

export interface FileSystemSpace {
  /** The directory itself, or its nearest ancestor that exists. */
  readonly at: string;
  /** Magic number of the file system, as statfs(2) gives it. */
  readonly magic: number;
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** 0 where the file system does not count them. */
  readonly totalInodes: number;
  readonly freeInodes: number;
}

export interface HostView {
  readonly kernelRelease: string;
  readonly uid: number;
  readonly nodeVersion: string;
  /** Text of a file (unpacked when its name ends in .gz); undefined when it cannot be read. */
  readText(path: string): string | undefined;
  /** Names in a directory; none when it cannot be read. */
  list(path: string): string[];
  exists(path: string): boolean;
  readLink(path: string): string | undefined;
  /** Absolute path of a program given by path or by name; undefined when there is none. */
  findExecutable(program: string): string | undefined;
  /** Runs a program to its end, for its version. */
  run(file: string, args: readonly string[]): Promise<RunResult>;
  /** Space where the directory is or would be made. */
  space(directory: string): FileSystemSpace;
  /** Why a file could not be made in the directory (or its nearest ancestor); undefined when it could. */
  whyNotWritable(directory: string): string | undefined;
  /** True when something accepts connections on the unix socket. */
  socketAnswers(path: string): Promise<boolean>;
  loadNetworks(options: LoadOptions): Promise<LoadedNetworks>;
  /** Versions of the CNI specification that a plugin supports. Rejects when the plugin does not answer. */
  pluginVersions(type: string, binDirs: readonly string[]): Promise<readonly string[]>;
  /** The version a network's plugins agree on. Rejects with the reason when there is none. */
  agreedVersion(network: NetworkConfigList, binDirs: readonly string[]): Promise<string>;
}

const commandTimeoutMs = 5_000;
const socketTimeoutMs = 1_000;

/** The node this process runs on. With `root`, files are looked up below it (programs and sockets are not). */
export function thisHost({ root = '/' }: { root?: string } = {}): HostView {
  const under = (path: string): string => join(root, path);
  const nearest = (directory: string): string => {
    let at = directory;
    while (at !== '/' && statSync(under(at), { throwIfNoEntry: false }) === undefined) at = dirname(at);
    return at;
  };
  const invoker = (binDirs: readonly string[]) =>
    // Asking for versions caches nothing; the directory is never made.
    createInvoker({ binDirs: binDirs.map(under), cacheDir: '/nonexistent' });
  return {
    kernelRelease: release(),
    uid: process.getuid?.() ?? 0,
    nodeVersion: process.version,
    readText: path => {
      try {
        const bytes = readFileSync(under(path));
        return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
      } catch {
        return undefined;
      }
    },
    list: path => {
      try {
        return readdirSync(under(path));
      } catch {
        return [];
      }
    },
    exists: path => statSync(under(path), { throwIfNoEntry: false }) !== undefined,
    readLink: path => {
      try {
        return readlinkSync(under(path));
      } catch {
        return undefined;
      }
    },
    findExecutable: program => {
      const candidates = isAbsolute(program)
        ? [program]
        : defaultPath.split(':').map(dir => join(dir, program));
      return candidates.find(path => isExecutable(under(path)));
    },
    run: (file, args) => run(file, args, { timeoutMs: commandTimeoutMs }),
    space: directory => {
      const at = nearest(directory);
      const { type, bsize, blocks, bavail, files, ffree } = statfsSync(under(at));
      return {
        at,
        magic: type,
        totalBytes: blocks * bsize,
        freeBytes: bavail * bsize,
        totalInodes: files,
        freeInodes: ffree,
      };
    },
    whyNotWritable: directory => {
      const at = nearest(directory);
      try {
        accessSync(under(at), constants.W_OK | constants.X_OK);
        return undefined;
      } catch (error) {
        return codeOf(error) === 'EROFS' ? `${at} is on a read-only file system` : messageOf(error);
      }
    },
    socketAnswers,
    loadNetworks: options =>
      loadNetworks({ ...options, confDir: under(options.confDir), binDirs: options.binDirs.map(under) }),
    pluginVersions: async (type, binDirs) => (await invoker(binDirs).version(type)).supportedVersions,
    agreedVersion: (network, binDirs) => invoker(binDirs).prepare(network),
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function socketAnswers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createConnection({ path });
    const end = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(socketTimeoutMs, () => end(false));
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}
