// A worker process of image operations: takes jobs as messages, several at a time, and reports how each went.
// Everything heavy happens here, so that the daemon keeps answering RPCs while images are pulled.
//
// Workers start in the middle of a pull: what unpacking layers does not need is loaded when it is asked for, and schemas
// of zod, the heaviest part, are none of what it needs.
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  createWriteStream,
  openSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { setPriority } from 'node:os';
import { pipeline } from 'node:stream/promises';
import { CriError, codeOf, messageOf } from '../errors.ts';
import { syncFileSystem } from '../host/files-ffi.ts';
import { removeTree } from '../host/remove-tree.ts';
import { unlessBomb } from './bomb.ts';
import { decompress } from './decompress.ts';
import type { FromWorker, JobKind, Jobs, ToWorker } from './jobs.ts';
import { type JobContext, runLayerJob } from './layer-job.ts';
import { measureTree } from './measure.ts';
import { createTransport } from './registry/transport.ts';
import { settleLayer } from './settle.ts';
import { latin1Path } from './unpack.ts';

const progressEveryMs = 100;
const nice = 10;
const oomScore = 500;

type Handlers = {
  [K in JobKind]: (input: Jobs[K]['input'], context: JobContext) => Promise<Jobs[K]['output']>;
};

const handlers: Handlers = {
  layer: runLayerJob,
  async settle({ layer, lower, unsettled }) {
    settleLayer(latin1Path(layer), lower.map(latin1Path), unsettled);
    return null;
  },
  async measure({ path }) {
    return measureTree(path);
  },
  async remove({ path }) {
    removeTree(path);
    return null;
  },
  async hash({ path, within }, { signal }) {
    const hash = createHash('sha256');
    let size = 0;
    const range = within && { start: within.offset, end: within.offset + within.length - 1 };
    for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024, signal, ...range })) {
      hash.update(chunk);
      size += chunk.length;
    }
    return { digest: `sha256:${hash.digest('hex')}`, size };
  },
  async inflate({ from, to, compression }, { signal }) {
    const { size } = statSync(from);
    const whole = unlessBomb(`archive ${from}`, decompress(createReadStream(from), compression), () => size);
    await pipeline(whole, createWriteStream(to, { mode: 0o600 }), { signal });
    return null;
  },
  async pack({ members, to, mode }, { signal }) {
    const { packArchive } = await import('./pack.ts');
    await packArchive(members, to, signal, mode);
    return null;
  },
  async difference({ directory, to }, { signal }) {
    const { packDifference } = await import('./difference.ts');
    packDifference(directory, to, signal);
    return null;
  },
  async compare(comparison, { signal }) {
    const { compareLayer } = await import('./compare.ts');
    return { difference: await compareLayer(comparison, signal) };
  },
  async sync({ path }) {
    const fd = openSync(path, 'r');
    try {
      await syncFileSystem(fd);
    } finally {
      closeSync(fd);
    }
    return null;
  },
};

function serve(send: (message: FromWorker) => void): void {
  const transport = createTransport();
  const running = new Map<number, AbortController>();

  async function perform(message: Exclude<ToWorker, { kind: 'cancel' }>): Promise<void> {
    const { id } = message;
    const controller = new AbortController();
    running.set(id, controller);
    let seen = 0;
    let timer: NodeJS.Timeout | undefined;
    // What is done sooner than the first report needs none.
    const progress = (bytes: number) => {
      seen = bytes;
      timer ??= setTimeout(() => {
        timer = undefined;
        send({ id, type: 'progress', bytes: seen });
      }, progressEveryMs);
    };
    try {
      send({
        id,
        type: 'done',
        output: await dispatch(message, { transport, signal: controller.signal, progress }),
      });
    } catch (error) {
      send({
        id,
        type: 'failed',
        message: messageOf(error),
        kind: error instanceof CriError ? error.kind : undefined,
        code: codeOf(error),
      });
    } finally {
      clearTimeout(timer);
      running.delete(id);
    }
  }

  process.on('message', (message: ToWorker) => {
    if (message.kind === 'cancel')
      running.get(message.id)?.abort(new CriError('cancelled', 'the operation was cancelled'));
    else void perform(message);
  });
}

/** One branch a kind, because TypeScript cannot see that handler and input belong together. */
function dispatch(message: Exclude<ToWorker, { kind: 'cancel' }>, context: JobContext): Promise<unknown> {
  switch (message.kind) {
    case 'layer':
      return handlers.layer(message.input, context);
    case 'settle':
      return handlers.settle(message.input, context);
    case 'measure':
      return handlers.measure(message.input, context);
    case 'remove':
      return handlers.remove(message.input, context);
    case 'hash':
      return handlers.hash(message.input, context);
    case 'inflate':
      return handlers.inflate(message.input, context);
    case 'pack':
      return handlers.pack(message.input, context);
    case 'difference':
      return handlers.difference(message.input, context);
    case 'compare':
      return handlers.compare(message.input, context);
    case 'sync':
      return handlers.sync(message.input, context);
  }
}

/** Below the daemon and the node's other work; and the first to go when memory is short. */
function stepBack(): void {
  // Linux has a priority for each thread; those that come later take the main thread's.
  for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), nice);
  writeFileSync('/proc/self/oom_score_adj', String(oomScore));
}

if (process.send) {
  stepBack();
  // Whatever the daemon's is: files of layers are made with the modes that they are to have.
  process.umask(0o022);
  // The daemon is gone, perhaps killed: what is half done has no record and is swept at the next start.
  process.on('disconnect', () => process.exit(0));
  serve(message => process.send?.(message));
}
