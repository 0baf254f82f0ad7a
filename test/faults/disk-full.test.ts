// The disk full at each single write. All that the daemon, conmon and the plugins write of pods and images is put on one
// small file system. Each operation is called when there is room for no page more, then for one, for two, and so on until
// there was enough; and likewise for files. So every write that takes room is refused once, as the kernel refuses it. Each
// refusal must be told in words, and after the clean-up calls that kubelet would make the node must be as it was.
import { execFileSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { cp, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, expect, it } from 'vitest';
import type { RpcError } from '../support/cri-client.ts';
import { afterOnePod, untilAsBefore } from '../support/everything.ts';
import { startLiar } from '../support/image/liar.ts';
import { startNode, type TestNode } from '../support/node.ts';
import { insisting, operationsOf } from '../support/operations.ts';

const node: TestNode = await startNode();
const registry = await startLiar();
const written = ['root', 'run', 'ipam', 'logs'];
const disk = join(node.directory, 'disk');

// Room for the image and the store, and as much again.
const plenty = { pages: 64 * 256, files: 10_000 };
const pageBytes = 4096;

await node.stop();
await mkdir(disk);
execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', disk]);
makeRoom();
for (const name of written) await moveToDisk(name);
await node.start();
const before = await afterOnePod(node);
let refusals = 0;

afterAll(async () => {
  // The node's end looks at the host as it was before there was this file system.
  await node.removeAll();
  await node.stop();
  for (const name of written) execFileSync('umount', ['-l', join(node.directory, name)]);
  execFileSync('umount', ['-l', disk]);
  await node.start();
  await node.destroy();
  await registry.close();
  console.log(`full disks: ${refusals} refused writes`);
});

async function moveToDisk(name: string): Promise<void> {
  const directory = join(node.directory, name);
  await mkdir(directory, { recursive: true });
  await rename(directory, `${directory}.old`);
  const place = join(disk, name);
  await cp(`${directory}.old`, place, { recursive: true, verbatimSymlinks: true });
  await rm(`${directory}.old`, { recursive: true });
  await mkdir(directory, { mode: 0o711 });
  execFileSync('mount', ['--bind', place, directory]);
}

type Room = typeof plenty;

function limit({ pages, files }: Room): void {
  execFileSync('mount', ['-o', `remount,size=${pages * pageBytes},nr_inodes=${files}`, disk]);
}

function makeRoom(): void {
  limit(plenty);
}

function used(): Room {
  const { blocks, bfree, files, ffree } = statfsSync(disk);
  return { pages: blocks - bfree, files: files - ffree };
}

/** Leaves room for so much of the one kind, and plenty of the other. */
function leave(kind: keyof Room, room: number): void {
  limit({ ...plenty, [kind]: used()[kind] + room });
}

for (const operation of await operationsOf(node, registry)) {
  it.each(['pages', 'files'] as const)(
    `${operation.name}: each write that finds no room for %s is told, and nothing is left`,
    async kind => {
      for (let room = 0, enough = false; !enough; room++) {
        const id = await insisting(operation.prepare);
        leave(kind, room);
        const limits = used()[kind] + room;
        const error = await operation.call(id, AbortSignal.timeout(60_000)).then(
          () => undefined,
          (thrown: RpcError) => thrown,
        );
        enough = error === undefined && used()[kind] < limits;
        makeRoom();
        if (error) {
          refusals++;
          // What a plugin or the runtime said keeps their words and is of a kind of its own.
          expect({ room, code: error.code, details: error.details }).toEqual({
            room,
            code: expect.toBeOneOf([grpc.RESOURCE_EXHAUSTED, grpc.UNKNOWN]),
            details: expect.stringMatching(/no space left|ENOSPC|nearly full/i),
          });
        }
        await operation.afterwards?.(id);
        registry.closeIdleConnections();
        await untilAsBefore(node, before);
      }
    },
  );
}
