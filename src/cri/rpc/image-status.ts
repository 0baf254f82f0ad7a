// ImageStatus: one image, or nothing when there is none of that name.
import { CriError } from '../../errors.ts';
import { toImage } from '../convert/image.ts';
import type { Rpc } from '../parts.ts';

export const imageStatus: Rpc<'ImageStatus'> = (parts, { image, verbose }) => {
  const name = image?.image ?? '';
  if (name === '') throw new CriError('invalidArgument', 'ImageStatus names no image');
  const found = parts.images.status(name);
  if (!found) return {};
  const info = { chainID: found.chainIds.at(-1) ?? '', imageSpec: found.document };
  return { image: toImage(found), ...(verbose ? { info: { info: JSON.stringify(info) } } : {}) };
};
