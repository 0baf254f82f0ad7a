// `cri-ts image`: pull, list, inspect, remove, import, export, prune, verify. Through the daemon when one runs,
// else on the store itself; which of the two it is, src/cli/image-store.ts decides.
import { resolve } from 'node:path';
import { Command } from 'commander';
import { addConfigFlags, type ConfigFlagValues, loadFromFlags } from './config-flags.ts';
import { createProgressView, formatBytes } from './image-progress.ts';
import { type ImageStore, openImageStore } from './image-store.ts';

interface Common extends ConfigFlagValues {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function imageCommand(): Command {
  const command = new Command('image').description('manage the images of this node');

  verb(command, 'pull <image>', 'pull an image from its registry')
    .option(
      '--creds <user:password>',
      'credentials for the registry (better: --creds-file, which ps does not show)',
    )
    .option('--creds-file <file>', 'file that holds user:password')
    .option('-q, --quiet', 'print nothing but the image id')
    .action((image: string, options: Common & { creds?: string; credsFile?: string }) =>
      withStore(options, async store => {
        const view = createProgressView(process.stderr, options.quiet === true || options.json === true);
        const pulled = await store.pull(image, await credentials(options), view.update).finally(view.end);
        print(options, pulled, ({ id }) => id);
      }),
    );

  verb(command, 'list', 'list images')
    .alias('ls')
    .option('-q, --quiet', 'print nothing but ids')
    .action((options: Common) =>
      withStore(options, async store => {
        const images = await store.list();
        print(options, images, () =>
          options.quiet ? images.map(({ id }) => id).join('\n') : table(images.flatMap(listLines)),
        );
      }),
    );

  verb(command, 'inspect <image>', 'print everything known of an image, as JSON').action(
    (image: string, options: Common) =>
      withStore(options, async store => {
        process.stdout.write(`${JSON.stringify(await store.inspect(image), null, 2)}\n`);
      }),
  );

  verb(command, 'remove <image...>', 'remove images under all their names')
    .alias('rm')
    .action((images: string[], options: Common) =>
      withStore(options, async store => {
        for (const image of images) await store.remove(image);
        print(options, { removed: images }, () => images.join('\n'));
      }),
    );

  verb(command, 'import <file>', 'import an OCI layout, an OCI archive or a docker archive (docker save)')
    .option('--name <name>', 'name of the image instead of what the archive says')
    .option('-q, --quiet', 'print nothing but ids')
    .action((file: string, options: Common & { name?: string }) =>
      withStore(options, async store => {
        const view = createProgressView(process.stderr, options.quiet === true || options.json === true);
        const imported = await store.import(resolve(file), options.name, view.update).finally(view.end);
        print(options, imported, () =>
          imported
            .map(({ id, names }) => (options.quiet || names.length === 0 ? id : `${names[0]} ${id}`))
            .join('\n'),
        );
      }),
    );

  verb(command, 'export <file> <image...>', 'write images as an OCI archive').action(
    (file: string, images: string[], options: Common) =>
      withStore(options, async store => {
        await store.export(images, resolve(file));
        print(options, { file: resolve(file), images }, () => resolve(file));
      }),
  );

  verb(command, 'prune', 'remove content and layers that no image and no container uses').action(
    (options: Common) =>
      withStore(options, async store => {
        const pruned = await store.prune();
        print(
          options,
          pruned,
          ({ blobs, layers, bytes }) => `removed ${blobs} blobs (${formatBytes(bytes)}) and ${layers} layers`,
        );
      }),
  );

  verb(
    command,
    'verify',
    'read the whole store again and name what is damaged; exits with 1 when anything is',
  ).action((options: Common) =>
    withStore(options, async store => {
      const damage = await store.verify();
      const lines = damage.map(({ kind, name, reason, images }) => {
        const users = images.length === 0 ? 'no image uses it' : `used by ${images.join(', ')}`;
        return `${kind} ${name}: ${reason} (${users})`;
      });
      print(options, { damage }, () =>
        lines.length === 0 ? 'everything is as it was stored' : lines.join('\n'),
      );
      if (damage.length > 0) process.exitCode = 1;
    }),
  );
  return command;
}

function verb(parent: Command, usage: string, description: string): Command {
  return addConfigFlags(parent.command(usage).description(description)).option('--json', 'print JSON');
}

async function withStore(options: Common, use: (store: ImageStore) => Promise<void>): Promise<void> {
  const { json: _json, quiet: _quiet, ...flags } = options;
  const { config } = loadFromFlags(pickConfigFlags(flags));
  const store = await openImageStore(config, { insistsOnRoot: flags.root !== undefined });
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

/** The flags of src/cli/config-flags.ts out of a command's options. */
function pickConfigFlags({
  config,
  address,
  root,
  state,
  cniConfDir,
  cniBinDir,
  logLevel,
}: ConfigFlagValues): ConfigFlagValues {
  const flags = { config, address, root, state, cniConfDir, cniBinDir, logLevel };
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}

async function credentials({ creds, credsFile }: { creds?: string; credsFile?: string }) {
  const { readFile } = await import('node:fs/promises');
  const text = credsFile === undefined ? creds : (await readFile(credsFile, 'utf8')).trim();
  if (text === undefined) return undefined;
  const colon = text.indexOf(':');
  if (colon === -1) throw new Error('credentials are user:password');
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function print<T>({ json }: Common, value: T, plain: (value: T) => string): void {
  const text = json ? JSON.stringify(value, null, 2) : plain(value);
  if (text !== '') process.stdout.write(`${text}\n`);
}

function listLines({
  id,
  repoTags,
  repoDigests,
  size,
  pinned,
}: Awaited<ReturnType<ImageStore['list']>>[number]): string[][] {
  const names = repoTags.length > 0 ? repoTags : (repoDigests.slice(0, 1) ?? []);
  const short = id.slice('sha256:'.length, 'sha256:'.length + 13);
  return (names.length > 0 ? names : ['<none>']).map(name => [
    name,
    short,
    formatBytes(size),
    pinned ? 'pinned' : '',
  ]);
}

function table(rows: string[][]): string {
  const all = [['IMAGE', 'ID', 'SIZE', ''], ...rows];
  const widths = [0, 1, 2].map(column => Math.max(...all.map(row => row[column]?.length ?? 0)));
  return all
    .map(row =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
