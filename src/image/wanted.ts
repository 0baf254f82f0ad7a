// What pull and import find out about an image before it is on this node, in one form for what follows
// (lifecycle.ts).
import { CriError } from '../errors.ts';
import type { WantedLayer } from './layers.ts';
import type { Descriptor, ImageConfig } from './oci.ts';

/** An image that is known but need not be here yet. */
export interface WantedImage {
  /** The manifest's descriptor, with its media type. */
  manifest: Descriptor;
  configDigest: string;
  config: ImageConfig;
  /** Index, manifest and config, as their bytes were found. */
  documents: readonly Uint8Array[];
  /** The lowest first. */
  layers: readonly WantedLayer[];
  /** Normalised references, each with the digest that it stands for. */
  names: readonly { name: string; target: string }[];
}

/** Pairs the manifest's layers with the config's diffIDs. @throws CriError imageFailed when they do not match. */
export function pairLayers(
  layers: readonly Omit<WantedLayer, 'diffId'>[],
  config: ImageConfig,
  name: string,
): WantedLayer[] {
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== layers.length) {
    throw new CriError(
      'imageFailed',
      `image ${name} has ${layers.length} layers in its manifest and ${diffIds.length} in its config`,
    );
  }
  return layers.map((layer, index) => ({ ...layer, diffId: diffIds[index] ?? '' }));
}
