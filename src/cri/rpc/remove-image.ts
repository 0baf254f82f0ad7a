// RemoveImage: removes an image under all its names. Idempotent.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const removeImage: Rpc<'RemoveImage'> = async (parts, { image }) => {
  const name = image?.image ?? '';
  if (name === '') throw new CriError('invalidArgument', 'RemoveImage names no image');
  await parts.images.remove(name);
  return {};
};
