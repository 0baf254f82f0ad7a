// `cri-ts serve`: the daemon.
import { Command } from 'commander';
import { startDaemon } from '../daemon.ts';
import { messageOf } from '../errors.ts';
import { serviceManager } from '../host/service-manager.ts';
import { createLogger } from '../log.ts';
import { addConfigFlags, type ConfigFlagValues, loadFromFlags } from './config-flags.ts';

export function serveCommand(version: string): Command {
  const command = new Command('serve').description(
    'serve CRI v1 on a unix socket: the daemon that kubelet and crictl talk to',
  );
  return addConfigFlags(command).action(async (flags: ConfigFlagValues) => {
    const { config, warnings } = loadFromFlags(flags);
    const log = createLogger(config.log.level, config.log.format);
    for (const { level, path, message } of warnings) log[level]({ key: path }, message);
    const daemon = await startDaemon({ config, version, log }).catch((error: unknown) => {
      log.fatal({ err: error }, messageOf(error));
      process.exit(1);
    });
    const manager = serviceManager(process.env);
    manager.ready();
    let closing = false;
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (closing) process.exit(1); // asked twice: at once
        closing = true;
        manager.stopping();
        log.info({ signal: name }, 'ending; pods stay as they are');
        daemon.close().then(
          () => process.exit(0),
          (error: unknown) => {
            log.error({ err: error }, 'ending failed');
            process.exit(1);
          },
        );
      });
    }
  });
}
