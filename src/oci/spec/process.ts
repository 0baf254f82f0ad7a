// What a container's first process is started with: command line, environment, working directory.
import path from 'node:path';
import type { ContainerConfig, KeyValue } from '../../cri-api/types.ts';
import { refuse } from './refuse.ts';

/** The part of an image's configuration that containers inherit (OCI image-spec, config.md). */
export interface ImageConfig {
  User?: string | null | undefined;
  Env?: readonly string[] | null | undefined;
  Entrypoint?: readonly string[] | null | undefined;
  Cmd?: readonly string[] | null | undefined;
  WorkingDir?: string | null | undefined;
  Volumes?: Readonly<Record<string, unknown>> | null | undefined;
  StopSignal?: string | null | undefined;
}

/** `command` stands for entrypoint and cmd both; `args` alone for cmd. */
export function commandLine(
  subject: string,
  { command, args }: Pick<ContainerConfig, 'command' | 'args'>,
  image: ImageConfig,
): string[] {
  const entrypoint = image.Entrypoint ?? [];
  // Docker writes [""] where a Dockerfile has reset the entrypoint.
  const start = entrypoint.length === 1 && entrypoint[0] === '' ? [] : entrypoint;
  const line =
    command.length > 0 ? [...command, ...args] : [...start, ...(args.length > 0 ? args : (image.Cmd ?? []))];
  if (line.length === 0) {
    refuse(subject, 'command', 'no command is given, and the image has neither entrypoint nor cmd');
  }
  if (line[0] === '') refuse(subject, 'command', 'the name of the program is empty');
  if (line.some(argument => argument.includes('\0'))) refuse(subject, 'command', 'contains a NUL byte');
  return line;
}

const defaultEnvPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface EnvironmentRequest {
  subject: string;
  tty: boolean;
  hostname: string;
  image: ImageConfig;
  envs: readonly KeyValue[];
  warn: (message: string) => void;
}

/** `NAME=value` entries, each name once: defaults, then the image's, then the container's, later ones winning. */
export function environment({ subject, tty, hostname, image, envs, warn }: EnvironmentRequest): string[] {
  const asked = envs.map(({ key, value }) => `${key}=${decode(subject, key, value, warn)}`);
  const byName = new Map<string, string>();
  for (const entry of [
    defaultEnvPath,
    ...(tty ? ['TERM=xterm'] : []),
    `HOSTNAME=${hostname}`,
    ...(image.Env ?? []),
    ...asked,
  ]) {
    const name = entry.split('=', 1)[0] ?? '';
    if (name === '') refuse(subject, 'envs', 'has an entry without a name');
    if (entry.includes('\0'))
      refuse(subject, `envs["${name.replaceAll('\0', '\\0')}"]`, 'contains a NUL byte');
    // As in Docker, an image entry without "=" takes the variable away.
    if (entry.includes('=')) byName.set(name, entry);
    else byName.delete(name);
  }
  return [...byName.values()];
}

/** The CRI carries bytes, but a runtime's config.json only text. */
function decode(subject: string, name: string, value: Uint8Array, warn: (message: string) => void): string {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(value);
  if (text.includes('\ufffd') && !Buffer.from(text).equals(value)) {
    warn(`${subject}: envs["${name}"] is not UTF-8; its invalid bytes are replaced`);
  }
  return text;
}

/** The container's, else the image's, else the root. An image's relative directory counts from the root. */
export function workingDir(subject: string, asked: string, image: ImageConfig): string {
  if (asked === '') return path.posix.join('/', image.WorkingDir ?? '');
  if (!path.isAbsolute(asked)) refuse(subject, 'working_dir', `"${asked}" is not an absolute path`);
  return path.posix.normalize(asked);
}
