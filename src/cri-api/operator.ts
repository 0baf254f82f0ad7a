// The private service of `cri-ts image` at run time: proto/cri-ts.proto, loaded for the daemon and for the
// command line. Integers are numbers here: none exceeds 2^53.
import { fileURLToPath } from 'node:url';
import type { ServiceClientConstructor } from '@grpc/grpc-js';
import { loadServices } from './services.ts';

export interface LayerProgressMessage {
  digest: string;
  phase: string;
  bytes: number;
  total: number;
}

export interface ImageEventMessage {
  layer?: LayerProgressMessage | null;
  image?: { id: string; names: string[] } | null;
}

export interface DamageMessage {
  kind: string;
  name: string;
  reason: string;
  images: string[];
}

export interface VerifyEventMessage {
  checked: number;
  total: number;
  damage?: DamageMessage | null;
}

export interface OperatorMethods {
  Pull: { request: { image: string; username: string; password: string }; response: ImageEventMessage };
  Import: { request: { file: string; name: string }; response: ImageEventMessage };
  Export: { request: { images: string[]; file: string }; response: object };
  Prune: { request: object; response: { blobs: number; layers: number; bytes: number } };
  Verify: { request: object; response: VerifyEventMessage };
}

/** Loads the service `cri_ts.v1.Images`. */
export function loadOperatorContract(): { Images: ServiceClientConstructor } {
  const file = fileURLToPath(new URL('../../proto/cri-ts.proto', import.meta.url));
  const name = 'cri_ts.v1.Images';
  return { Images: loadServices(file, [name], { longs: Number })[name] };
}
