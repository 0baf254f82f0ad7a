// StreamImages: ListImages in messages of bounded size.
import { inBatches } from '../batches.ts';
import { toImage } from '../convert/image.ts';
import type { StreamRpc } from '../parts.ts';

export const streamImages: StreamRpc<'StreamImages'> = async function* (parts, { filter }) {
  const found = parts.images.list(filter?.image?.image || undefined);
  for (const batch of inBatches(found)) yield { images: batch.map(toImage) };
};
