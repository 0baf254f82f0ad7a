// The command line: one file a command, loaded when it is asked for, so that none pays for another.
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { z } from 'zod';
import { messageOf } from '../errors.ts';

const packageSchema = z.object({ version: z.string() });
const packageFile = new URL('../../package.json', import.meta.url);
const { version } = packageSchema.parse(JSON.parse(readFileSync(packageFile, 'utf8')));

const commands: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./serve.ts')).serveCommand(version),
  config: async () => (await import('./config.ts')).configCommand(),
  doctor: async () => (await import('./doctor.ts')).doctorCommand(),
  image: async () => (await import('./image.ts')).imageCommand(),
  cni: async () => (await import('./cni.ts')).cniCommand(),
  net: async () => (await import('./net.ts')).netCommand(),
  explain: async () => (await import('./explain.ts')).explainCommand(),
};

const program = new Command('cri-ts')
  .description('A Kubernetes container runtime: CRI v1 over runc, conmon and the CNI plugins')
  .enablePositionalOptions() // a flag after a subcommand's name is the subcommand's
  .version(version);

async function main(): Promise<void> {
  const asked = commands[process.argv[2] ?? ''];
  const wanted = asked ? [asked] : Object.values(commands);
  for (const load of wanted) program.addCommand(await load());
  await program.parseAsync();
}

main().catch((error: unknown) => {
  process.stderr.write(`cri-ts: ${messageOf(error)}\n`);
  process.exitCode = 1;
});
