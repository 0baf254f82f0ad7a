// The work that image operations hand to worker processes, as messages: what goes in, what comes out. The
// daemon's main thread, which answers RPCs, only coordinates (src/image/pool.ts); the doing is in
// src/image/worker.ts.
import type { ErrorKind } from '../errors.ts';
import type { Comparison } from './compare.ts';
import type { Compression } from './media-types.ts';
import type { ArchiveMember } from './pack.ts';
import type { RegistrySource } from './registry/types.ts';
import type { Unsettled } from './unpack.ts';

/** Where the bytes of a blob come from. */
export type BlobSource =
  | { readonly kind: 'file'; readonly path: string; readonly offset: number; readonly length: number }
  | RegistrySource;

export interface LayerJob {
  readonly source: BlobSource;
  /** What the bytes must hash to; undefined when the archive does not say (docker archives). */
  readonly digest: string | undefined;
  /** What the bytes must number; undefined when the archive does not say. */
  readonly size: number | undefined;
  /** `sniff`: look at the first bytes. */
  readonly compression: Compression | 'sniff';
  /** Keep the bytes: gathered in `partial`, moved into `blobs` (a directory) when they are all there and right. */
  readonly keep: { readonly partial: string; readonly blobs: string } | undefined;
  /** Directory to make and unpack into; undefined = only fetch. */
  readonly unpackInto: string | undefined;
}

export interface LayerResult {
  /** Digest and bytes of the blob. */
  digest: string;
  size: number;
  /** Digest of the uncompressed archive; undefined when it was not unpacked. */
  diffId: string | undefined;
  unsettled: Unsettled;
}

/** Disk usage as `du` counts it: allocated blocks and inodes, a hard-linked file once. */
export interface DiskUsage {
  bytes: number;
  inodes: number;
}

export interface Jobs {
  layer: { input: LayerJob; output: LayerResult };
  settle: { input: { layer: string; lower: string[]; unsettled: Unsettled }; output: null };
  measure: { input: { path: string }; output: DiskUsage };
  /** Removes a tree; fine when it is gone. */
  remove: { input: { path: string }; output: null };
  /** Hashes a file, or the bytes of it that `within` names. */
  hash: {
    input: { path: string; within?: { offset: number; length: number } };
    output: { digest: string; size: number };
  };
  /** Decompresses a file into another. */
  inflate: { input: { from: string; to: string; compression: Compression }; output: null };
  /** Writes an archive. */
  pack: { input: { members: ArchiveMember[]; to: string; mode?: number }; output: null };
  /** Packs a writable layer into a layer archive. */
  difference: { input: { directory: string; to: string }; output: null };
  /** Compares an unpacked layer with its archive; the first difference in words. */
  compare: { input: Comparison; output: { difference: string | null } };
  /** Waits until the file system that holds `path` has everything on its device. */
  sync: { input: { path: string }; output: null };
}

export type JobKind = keyof Jobs;

export type ToWorker =
  | { [K in JobKind]: { id: number; kind: K; input: Jobs[K]['input'] } }[JobKind]
  | { id: number; kind: 'cancel' };

export type FromWorker =
  | { id: number; type: 'progress'; bytes: number }
  | { id: number; type: 'done'; output: unknown }
  | {
      id: number;
      type: 'failed';
      message: string;
      kind: ErrorKind | undefined;
      code: string | undefined;
    };
