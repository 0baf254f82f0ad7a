// CNI plugins made of shell text, for what the real ones cannot be made to do on demand (hang, lie, fail in the middle of
// a chain) or cannot show (what exactly they were given). Every call but VERSION is recorded, in order.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Shell text by CNI operation; `$config` holds the configuration. What is not named succeeds; ADD gives an address. */
export interface FakePlugin {
  ADD?: string;
  DEL?: string;
  CHECK?: string;
  STATUS?: string;
  GC?: string;
}

/** One call of a fake plugin. */
export interface FakePluginCall {
  plugin: string;
  verb: string;
  containerId: string;
  netns: string;
  ifName: string;
  /** CNI_ARGS. */
  args: string;
  /** CNI_PATH. */
  path: string;
  config: Record<string, unknown>;
}

const versions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];

/** Shell text that prints a JSON value. */
export function prints(value: unknown): string {
  return `printf '%s' '${JSON.stringify(value)}'`;
}

/** Shell text of a plugin that fails as the specification says. */
export function fails(code: number, msg: string, details = ''): string {
  return `${prints({ cniVersion: '1.0.0', code, msg, details })}; exit 1`;
}

/** Shell text that hands the call on to a real plugin. */
export function delegates(plugin: string): string {
  return `printf '%s' "$config" | /usr/lib/cni/${plugin}`;
}

/** An ADD that gives an address without making an interface. */
export const givesAddress = prints({ cniVersion: '1.0.0', ips: [{ address: '192.0.2.77/24' }] });

/** Shell text for plugins later in a chain: they pass on what came before them. */
export const passesOn = `printf '%s' "$config" | sed 's/.*"prevResult"://; s/}$//'`;

/** Writes or replaces a plugin. */
export async function writeFakePlugin(directory: string, name: string, plugin: FakePlugin): Promise<void> {
  const record =
    `printf '{"plugin":"%s","verb":"%s","containerId":"%s","netns":"%s","ifName":"%s","args":"%s","path":"%s","config":%s}\\n' ` +
    `${name} "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_PATH" "$config" >> ${callsFile(directory)}`;
  const branches = Object.entries({ ADD: givesAddress, ...plugin }).map(
    ([verb, text]) => `${verb}) ${text} ;;`,
  );
  const text = [
    '#!/bin/sh',
    'config=$(cat)',
    `if [ "$CNI_COMMAND" = VERSION ]; then ${prints({ cniVersion: '1.1.0', supportedVersions: versions })}; exit 0; fi`,
    record,
    `case $CNI_COMMAND in\n${branches.join('\n')}\nesac`,
  ];
  await writeFile(join(directory, name), `${text.join('\n')}\n`, { mode: 0o755 });
}

/** The calls so far, of one container or of all. */
export async function fakePluginCalls(directory: string, containerId?: string): Promise<FakePluginCall[]> {
  const text = await readFile(callsFile(directory), 'utf8').catch(() => '');
  const calls = text
    .split('\n')
    .filter(line => line !== '')
    .map((line): FakePluginCall => JSON.parse(line));
  return calls.filter(call => containerId === undefined || call.containerId === containerId);
}

function callsFile(directory: string): string {
  return join(directory, 'calls.jsonl');
}
