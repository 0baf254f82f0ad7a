// The durable records of images: what the daemon must know after it was killed. An image exists when its
// record exists; blobs and directories without one are leftovers, kept for a while so that a pull can go on
// where it stopped, and swept in the end.
import { z } from 'zod';
import type { Collection, Store } from '../store/store.ts';
import { imageConfigSchema } from './oci.ts';

/** Keyed by image id, the digest of the config. */
export const imageRecordSchema = z.object({
  id: z.string(),
  manifest: z.object({ digest: z.string(), mediaType: z.string(), size: z.number() }),
  /** Every blob of the image that the content store holds: index, manifest, config, layers. */
  blobs: z.array(z.string()),
  /** ChainIDs of its layers, the lowest first. */
  chain: z.array(z.string()),
  /** Bytes of index, manifest, config and layers as a registry holds them. */
  size: z.number(),
  config: imageConfigSchema,
  createdAtMs: z.number(),
});
export type ImageRecord = z.infer<typeof imageRecordSchema>;

/** Keyed by normalised reference, with tag or with digest. One record a name, so that moving a tag is one write. */
export const nameRecordSchema = z.object({
  image: z.string(),
  /** What the name stood for at the registry: digest of the manifest or index. */
  target: z.string(),
  /** Key of the work that gave the name; what undoes another one leaves it alone. */
  by: z.string().default(''),
});
export type NameRecord = z.infer<typeof nameRecordSchema>;

/** Keyed by chainID: the layer together with all below it, though only its own files are in its directory. */
export const layerRecordSchema = z.object({
  /** Name of its directory; short, because overlay options list all of an image's. */
  n: z.number().int().positive(),
  diffId: z.string(),
  /** Disk usage once measured. */
  usage: z.object({ bytes: z.number(), inodes: z.number() }).optional(),
  createdAtMs: z.number(),
});
export type LayerRecord = z.infer<typeof layerRecordSchema>;

/** Keyed by container id (or another owner of a root filesystem): keeps the layers it stands on. */
export const rootfsRecordSchema = z.object({
  image: z.string(),
  /** Directories of its layers, the lowest first. */
  layers: z.array(z.number()),
  chain: z.array(z.string()),
  readonly: z.boolean(),
});
export type RootfsRecord = z.infer<typeof rootfsRecordSchema>;

/**
 * Keyed by a random name: a pull, an import or a removal under way, or one that is over and still owes something. It
 * says what undoing it has to take away, and what has to stand there instead.
 */
export const imageWorkSchema = z.object({
  key: z.string(),
  operation: z.enum(['PullImage', 'ImportImage', 'RemoveImage']),
  /** The image as whoever asked for it named it. */
  id: z.string(),
  /** The image's id; '' until it is known. */
  image: z.string(),
  /** Which record of that id is this work's own: one of another age was there before, or came after. */
  createdAtMs: z.number(),
  /** The names that this work gives or takes, by whom they are given, and what each stands for without that. */
  names: z.array(z.object({ name: z.string(), by: z.string(), before: nameRecordSchema.nullable() })),
  /** Blobs that need not be kept for another attempt. */
  blobs: z.array(z.string()),
  owed: z.array(z.string()),
  times: z.record(z.string(), z.object({ began: z.number(), ms: z.number() })),
});
export type ImageWorkRecord = z.infer<typeof imageWorkSchema>;

/**
 * One record, `writing`: image data of the boot with this id may not have reached the disk yet. Found with
 * another boot's id, it means that the machine went down, and what is younger than `sinceMs` is doubted.
 */
export const unflushedRecordSchema = z.object({ bootId: z.string(), sinceMs: z.number() });

export interface ImageRecords {
  images: Collection<ImageRecord>;
  names: Collection<NameRecord>;
  layers: Collection<LayerRecord>;
  rootfs: Collection<RootfsRecord>;
  work: Collection<ImageWorkRecord>;
  unflushed: Collection<z.infer<typeof unflushedRecordSchema>>;
}

export function openRecords(store: Store): ImageRecords {
  return {
    images: store.collection('images', imageRecordSchema),
    names: store.collection('image-names', nameRecordSchema),
    layers: store.collection('layers', layerRecordSchema),
    rootfs: store.collection('rootfs', rootfsRecordSchema),
    work: store.collection('image-work', imageWorkSchema),
    unflushed: store.collection('unflushed', unflushedRecordSchema),
  };
}
