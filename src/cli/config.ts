// `cri-ts config`: prints the default and the effective configuration, and checks a file.
import { Command } from 'commander';
import { type Config, ConfigError, loadConfig, printConfigFile, printDefaultFile } from '../config/index.ts';
import { addConfigFlags, type ConfigFlagValues, formatWarning, loadFromFlags } from './config-flags.ts';

export function configCommand(): Command {
  const command = new Command('config').description('show and check the configuration');
  command
    .command('default')
    .description('print the default configuration, every key with its meaning')
    .action(() => {
      process.stdout.write(printDefaultFile());
    });
  addConfigFlags(command.command('dump'))
    .description('print the effective configuration: file, imports, flags and defaults together')
    .option('--json', 'as the program itself sees it, in JSON')
    .action((options: ConfigFlagValues & { json?: boolean }) => {
      const loaded = orReport(() => {
        const { json: _, ...flags } = options;
        return loadFromFlags(flags);
      });
      if (loaded === undefined) return;
      for (const warning of loaded.warnings) process.stderr.write(`${formatWarning(warning)}\n`);
      process.stdout.write(
        options.json === true ? `${toJson(loaded.config)}\n` : printConfigFile(loaded.file),
      );
    });
  command
    .command('check')
    .argument('<file>', 'configuration file')
    .description('check a file and its imports; exits with 1 and every error when it would stop the start')
    .action((file: string) => {
      const loaded = orReport(() => loadConfig({ file }));
      if (loaded === undefined) return;
      for (const warning of loaded.warnings) process.stdout.write(`${formatWarning(warning)}\n`);
      process.stdout.write(`${file}: ok\n`);
    });
  return command;
}

/** On a configuration error: one line for each problem, and exit code 1. */
function orReport<T>(load: () => T): T | undefined {
  try {
    return load();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const { path, message } of error.problems) process.stderr.write(`error: ${path}: ${message}\n`);
    process.exitCode = 1;
    return undefined;
  }
}

function toJson(config: Config): string {
  return JSON.stringify(
    config,
    (_, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value),
    2,
  );
}
