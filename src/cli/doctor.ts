// `cri-ts doctor`: examines the node, and the configuration with it.
import { Command } from 'commander';
import { ConfigError, type LoadedConfig } from '../config/index.ts';
import { type CheckReport, examine, formatReport, thisHost, worstLevel } from '../doctor/index.ts';
import { addConfigFlags, type ConfigFlagValues, loadFromFlags } from './config-flags.ts';

export function doctorCommand(): Command {
  return addConfigFlags(new Command('doctor'))
    .description(
      'check this node and say how to mend what is wrong; changes nothing, exits with 1 when a check fails',
    )
    .option('--json', 'the report in JSON')
    .action(async ({ json, ...flags }: ConfigFlagValues & { json?: boolean }) => {
      const { loaded, report } = loadWithReport(flags);
      const reports = [report, ...(loaded === undefined ? [] : await examine(thisHost(), loaded.config))];
      process.stdout.write(
        json === true ? `${JSON.stringify(reports, undefined, 2)}\n` : formatReport(reports),
      );
      if (worstLevel(reports) === 'fail') process.exitCode = 1;
    });
}

/** The configuration is the first thing examined; without a valid one, the rest cannot be. */
function loadWithReport(flags: ConfigFlagValues): { loaded: LoadedConfig | undefined; report: CheckReport } {
  const check = 'configuration';
  const why = 'the daemon does not start with it';
  try {
    const loaded = loadFromFlags(flags);
    const remarks = loaded.warnings.map(({ level, path, message }) => ({
      level,
      found: `${path}: ${message}`,
      why: 'the file asks for something that is not done as it says',
    }));
    const valid = { level: 'ok' as const, found: 'valid', why };
    return { loaded, report: { check, findings: remarks.length > 0 ? remarks : [valid] } };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const findings = error.problems.map(({ path, message }) => ({
      level: 'fail' as const,
      found: `${path}: ${message}`,
      why,
      mend: 'Correct the key (cri-ts config check FILE).',
    }));
    return { loaded: undefined, report: { check, findings } };
  }
}
