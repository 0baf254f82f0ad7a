// What kubelet is told when an image cannot be mounted as a volume.
import { CriError, isDiskFull, messageOf } from '../errors.ts';
import { imageVolumeFailed } from '../oci/spec/mounts.ts';

/**
 * Runs `work`, which is about an image mounted on `destination`.
 * @throws CriError of the kind of what fails, beginning with the words that kubelet looks for
 */
export async function forImageVolume<T>(destination: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    const message = `${imageVolumeFailed}the image volume on ${destination} cannot be had: ${messageOf(thrown)}`;
    throw new CriError(kindOf(thrown), message, { cause: thrown });
  }
}

function kindOf(thrown: unknown): CriError['kind'] {
  if (thrown instanceof CriError) return thrown.kind;
  return isDiskFull(thrown) ? 'resourceExhausted' : 'internal';
}
