// PullImage: brings an image onto the node; answers with its id.
import { CriError } from '../../errors.ts';
import type { Rpc } from '../parts.ts';

export const pullImage: Rpc<'PullImage'> = async (parts, { image, auth }, { signal }) => {
  const name = image?.image ?? '';
  if (name === '') throw new CriError('invalidArgument', 'PullImage names no image');
  const imageRef = await parts.images.pull(name, { ...(auth ? { auth } : {}), signal });
  return { imageRef };
};
