// A made-up node: files below a directory of the test's own, and set answers for what is not a file.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type HostView, thisHost } from '../../../src/doctor/index.ts';
import type { RunResult } from '../../../src/host/process.ts';

export interface FakeNode {
  /** Path -> text. */
  readonly files?: Readonly<Record<string, string>>;
  /** Path -> target. */
  readonly links?: Readonly<Record<string, string>>;
  /** Executables, by path -> what `--version` prints; undefined = it fails. */
  readonly programs?: Readonly<Record<string, string | undefined>>;
  readonly answeringSockets?: readonly string[];
  /** CNI plugin -> versions. */
  readonly plugins?: Readonly<Record<string, readonly string[]>>;
  readonly view?: Partial<HostView>;
}

const mebibyte = 1024 ** 2;

export function fakeHost(root: string, node: FakeNode): HostView {
  for (const [path, text] of Object.entries(node.files ?? {}))
    make(root, path, file => writeFileSync(file, text));
  for (const [path, target] of Object.entries(node.links ?? {}))
    make(root, path, file => symlinkSync(target, file));
  for (const path of Object.keys(node.programs ?? {})) {
    make(root, path, file => writeFileSync(file, '', { mode: 0o755 }));
  }
  const plugins = node.plugins ?? {};
  return {
    ...thisHost({ root }),
    kernelRelease: '6.12.0',
    uid: 0,
    nodeVersion: 'v20.19.0',
    run: path => Promise.resolve(outcome(node.programs?.[path])),
    socketAnswers: path => Promise.resolve(node.answeringSockets?.includes(path) ?? false),
    space: directory => ({
      at: directory,
      magic: 0xef53,
      totalBytes: 100_000 * mebibyte,
      freeBytes: 50_000 * mebibyte,
      totalInodes: 1000,
      freeInodes: 500,
    }),
    whyNotWritable: () => undefined,
    pluginVersions: type => Promise.resolve(plugins[type] ?? []),
    agreedVersion: network => Promise.resolve(network.cniVersion),
    ...node.view,
  };
}

function make(root: string, path: string, create: (file: string) => void): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  create(file);
}

function outcome(version: string | undefined): RunResult {
  return {
    exitCode: version === undefined ? 1 : 0,
    signal: undefined,
    stdout: version === undefined ? '' : `${version}\nmore lines\n`,
    stderr: '',
    failure: undefined,
    startError: undefined,
    outcome: '',
  };
}
