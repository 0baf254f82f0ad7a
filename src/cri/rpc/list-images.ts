// ListImages: every image, or those that the filter's reference stands for.
import { toImage } from '../convert/image.ts';
import type { Rpc } from '../parts.ts';

export const listImages: Rpc<'ListImages'> = (parts, { filter }) => ({
  images: parts.images.list(filter?.image?.image || undefined).map(toImage),
});
