// ImageFsInfo: what images and containers' writable layers take on disk.
import type { ImageFsUsage } from '../../image/images.ts';
import type { Rpc } from '../parts.ts';

export const imageFsInfo: Rpc<'ImageFsInfo'> = async parts => {
  const { images, containers } = await parts.images.fsInfo();
  return { imageFilesystems: [usage(images)], containerFilesystems: [usage(containers)] };
};

function usage({ mountpoint, usedBytes, inodesUsed, timestampNs }: ImageFsUsage) {
  return {
    timestamp: timestampNs.toString(),
    fsId: { mountpoint },
    usedBytes: { value: usedBytes },
    inodesUsed: { value: inodesUsed },
  };
}
