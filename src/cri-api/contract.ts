// The CRI v1 contract at run time: proto/api.proto, loaded for the gRPC server and for clients.
import { fileURLToPath } from 'node:url';
import type { ServiceClientConstructor } from '@grpc/grpc-js';
import { loadServices } from './services.ts';

/** What a message may look like when it is sent: anything left out has its default. */
export type Loose<T> = T extends Uint8Array
  ? T
  : T extends (infer Item)[]
    ? Loose<Item>[]
    : T extends object
      ? { [Key in keyof T]?: Loose<T[Key]> }
      : T;

export interface Contract {
  RuntimeService: ServiceClientConstructor;
  ImageService: ServiceClientConstructor;
}

/** Loads the contract. 64-bit integers are decimal strings, enums their names; what was not sent is present. */
export function loadContract(): Contract {
  const file = fileURLToPath(new URL('../../proto/api.proto', import.meta.url));
  const [runtime, image] = ['runtime.v1.RuntimeService', 'runtime.v1.ImageService'] as const;
  const services = loadServices(file, [runtime, image], { longs: String, oneofs: true });
  return { RuntimeService: services[runtime], ImageService: services[image] };
}
