// `cri-ts net`: the network of a node's pods as it is now, as text, JSON or a picture; `net trace`: a packet's way.
import { writeFile } from 'node:fs/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import { connectRuntime } from '../cri-api/client.ts';
import { type NodeNetwork, nodeJson, readNode } from '../net/node.ts';
import { drawNodes } from '../net/svg/nodes.ts';
import { nodeText, traceText } from '../net/text.ts';
import { trace } from '../net/trace/trace.ts';
import { addConfigFlags, type ConfigFlagValues, loadFromFlags } from './config-flags.ts';

interface NetFlags extends ConfigFlagValues {
  peer?: string[];
  json?: true;
  svg?: string;
}

interface TraceFlags extends NetFlags {
  protocol: 'tcp' | 'udp' | 'any';
  port?: number;
}

export function netCommand(): Command {
  const net = new Command('net')
    .description("show the network of this node's pods: interfaces, routes, rules, CNI files and results")
    .enablePositionalOptions();
  common(net)
    .option('--svg <file>', 'draw it as a picture')
    .action(async (flags: NetFlags) => {
      const nodes = await readNodes(flags);
      if (flags.svg !== undefined) await writeFile(flags.svg, drawNodes(nodes));
      else if (flags.json) printJson({ nodes: nodes.map(nodeJson) });
      else process.stdout.write(`${nodes.map(nodeText).join('\n\n')}\n`);
    });
  common(net.command('trace <from> <to>'))
    .description(
      'name each hop of a packet: from and to are pods, nodes or addresses; exits with 1 when it is dropped',
    )
    .addOption(
      new Option('--protocol <name>', 'what the packet is; any: nothing that a rule names, such as a ping')
        .choices(['tcp', 'udp', 'any'])
        .default('any'),
    )
    .option('--port <number>', 'destination port; makes the protocol tcp unless it is named', portNumber)
    .action(async (from: string, to: string, { protocol, port, ...flags }: TraceFlags) => {
      const nodes = await readNodes(flags);
      const asked = protocol === 'any' && port !== undefined ? 'tcp' : protocol;
      const found = await trace(nodes, from, to, { protocol: asked, port });
      if (flags.json) printJson(found);
      else process.stdout.write(`${traceText(found)}\n`);
      if (found.outcome === 'dropped') process.exitCode = 1;
    });
  return net;
}

function common(command: Command): Command {
  return addConfigFlags(command)
    .option(
      '--peer <socket>',
      "another node's socket on this machine, to see both; may be repeated",
      (socket: string, earlier: string[] | undefined) => [...(earlier ?? []), socket],
    )
    .option('--json', 'print JSON');
}

async function readNodes({ peer = [], json: _json, svg: _svg, ...flags }: NetFlags): Promise<NodeNetwork[]> {
  const { config } = loadFromFlags(flags);
  return Promise.all(
    [config.server.socketPath, ...peer].map(async socketPath => {
      const client = connectRuntime(socketPath);
      try {
        return await readNode(client);
      } finally {
        client.close();
      }
    }),
  );
}

function portNumber(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw new InvalidArgumentError('a number from 1 to 65535 is needed');
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
