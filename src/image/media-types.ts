// What kinds of documents and layers images are made of, and how large a document may be. Apart from the documents'
// schemas (oci.ts), which image workers need not load.

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSignedSchema1: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
} as const;

/** What a registry is asked for when an image is resolved, the preferred first. */
export const acceptedManifests = [
  mediaTypes.ociIndex,
  mediaTypes.dockerIndex,
  mediaTypes.ociManifest,
  mediaTypes.dockerManifest,
];

export type Compression = 'none' | 'gzip' | 'zstd';

/** Compression by the media type of a layer, OCI's or docker's; undefined when it is no layer of a root filesystem. */
export function layerCompression(mediaType: string): Compression | undefined {
  if (/^application\/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar\+zstd$/.test(mediaType))
    return 'zstd';
  if (/^application\/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar\+gzip$/.test(mediaType))
    return 'gzip';
  if (/^application\/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar$/.test(mediaType)) return 'none';
  if (/^application\/vnd\.docker\.image\.rootfs\.(foreign\.)?diff\.tar\.gzip$/.test(mediaType)) return 'gzip';
  if (/^application\/vnd\.docker\.image\.rootfs\.diff\.tar\.zstd$/.test(mediaType)) return 'zstd';
  if (mediaType === mediaTypes.dockerLayer) return 'none';
  return undefined;
}

/** More than any real manifest or config; a larger one is an attack or a mistake (containerd's bound is the same order). */
export const maxDocumentBytes = 8 * 1024 * 1024;
