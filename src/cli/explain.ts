// `cri-ts explain`: how a pod came up, step by step, and how a person would do the same by hand.
import { Command } from 'commander';
import { connectRuntime } from '../cri-api/client.ts';
import { containerSteps, podSteps } from '../explain/commands.ts';
import { readPod } from '../explain/pod.ts';
import { podScript } from '../explain/script.ts';
import { explanation } from '../explain/text.ts';
import { addConfigFlags, type ConfigFlagValues, loadFromFlags } from './config-flags.ts';

interface ExplainFlags extends ConfigFlagValues {
  script?: true;
  json?: true;
}

export function explainCommand(): Command {
  const command = new Command('explain')
    .description(
      'the steps that brought a pod up, with their times and the commands that do the same by hand',
    )
    .argument('<pod>', "the pod's name, namespace/name, or the beginning of its id");
  return addConfigFlags(command)
    .option('--script', 'print a shell script that builds such a pod by itself')
    .option('--json', 'print JSON')
    .action(async (wanted: string, { script, json, ...flags }: ExplainFlags) => {
      const client = connectRuntime(loadFromFlags(flags).config.server.socketPath);
      try {
        const pod = await readPod(client, wanted);
        if (script) process.stdout.write(podScript(pod));
        else if (json) {
          const containers = pod.containers.map(container => ({
            id: container.id,
            name: container.name,
            steps: containerSteps(pod, container),
          }));
          process.stdout.write(
            `${JSON.stringify({ id: pod.id, steps: podSteps(pod), containers }, null, 2)}\n`,
          );
        } else process.stdout.write(`${explanation(pod)}\n`);
      } finally {
        client.close();
      }
    });
}
