// The flags that say which configuration a command works with; every command that needs one has the same.
import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { type ConfigFlags, type ConfigWarning, type LoadedConfig, loadConfig } from '../config/index.ts';

/** Read when --config is not given and the file is there. */
export const defaultConfigFile = '/etc/cri-ts/config.toml';

export interface ConfigFlagValues extends ConfigFlags {
  readonly config?: string;
}

/** Adds --config and the flags that override the file. */
export function addConfigFlags(command: Command): Command {
  return command
    .option('--config <file>', `configuration file (default: ${defaultConfigFile} if it is there)`)
    .option('--address <path>', 'CRI socket')
    .option('--root <dir>', 'directory for what survives a reboot')
    .option('--state <dir>', 'directory for what a reboot may lose')
    .option('--cni-conf-dir <dir>', 'directory of CNI configuration')
    .addOption(
      new Option('--cni-bin-dir <dir>', 'directory of CNI plugins; may be repeated').argParser(
        (dir: string, earlier: string[] | undefined) => [...(earlier ?? []), dir],
      ),
    )
    .option('--log-level <level>', 'trace, debug, info, warn, error or fatal');
}

/** Loads what the flags of addConfigFlags name. Throws ConfigError with every problem. */
export function loadFromFlags({ config, ...flags }: ConfigFlagValues): LoadedConfig {
  return loadConfig({ file: configFileOf(config), flags });
}

/** The configuration file in use; undefined = the embedded defaults. */
export function configFileOf(flag: string | undefined): string | undefined {
  return flag ?? (existsSync(defaultConfigFile) ? defaultConfigFile : undefined);
}

export function formatWarning({ level, path, message }: ConfigWarning): string {
  return `${level === 'warn' ? 'warning' : 'note'}: ${path}: ${message}`;
}
