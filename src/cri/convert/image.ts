// Images as CRI messages.
import type { Loose } from '../../cri-api/contract.ts';
import type { Image } from '../../cri-api/types.ts';
import type { ImageSummary } from '../../image/images.ts';

export function toImage({
  id,
  repoTags,
  repoDigests,
  size,
  uid,
  username,
  pinned,
}: ImageSummary): Loose<Image> {
  return {
    id,
    repoTags,
    repoDigests,
    size,
    username,
    pinned,
    ...(uid === undefined ? {} : { uid: { value: uid } }),
  };
}
