// The services of a .proto file for grpc-js. Its usual loader makes descriptors of every message besides, for reflection,
// which nobody here asks for, and takes twice as long.
import {
  type MethodDefinition,
  makeGenericClientConstructor,
  type ServiceClientConstructor,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import protobuf from 'protobufjs';

export interface ServicesOptions {
  /** What 64-bit integers become. */
  longs: StringConstructor | NumberConstructor;
  /** Set fields that stand in a oneof are named under the oneof's own name. */
  oneofs?: boolean;
}

/**
 * Loads the services of these full names. Fields are in camelCase, enums by name, and what was not sent is present as its
 * default.
 */
export function loadServices<Name extends string>(
  file: string,
  names: readonly Name[],
  { longs, oneofs = false }: ServicesOptions,
): Record<Name, ServiceClientConstructor> {
  const root = new protobuf.Root().loadSync(file).resolveAll();
  const conversion = { longs, oneofs, enums: String, defaults: true };
  const entries = names.map(name => {
    const { methodsArray } = root.lookupService(name);
    const definition: ServiceDefinition = Object.fromEntries(
      methodsArray.map(method => [method.name, methodDefinition(name, method, conversion)]),
    );
    return [name, makeGenericClientConstructor(definition, name)];
  });
  return Object.fromEntries(entries) as Record<Name, ServiceClientConstructor>;
}

function methodDefinition(
  service: string,
  {
    name,
    requestStream = false,
    responseStream = false,
    resolvedRequestType,
    resolvedResponseType,
  }: protobuf.Method,
  conversion: protobuf.IConversionOptions,
): MethodDefinition<object, object> {
  if (!resolvedRequestType || !resolvedResponseType)
    throw new Error(`${service}/${name} has unknown messages`);
  const [request, response] = [resolvedRequestType, resolvedResponseType].map(type => ({
    serialize(value: object) {
      const { buffer, byteOffset, length } = type.encode(type.fromObject(value)).finish();
      return Buffer.from(buffer, byteOffset, length);
    },
    deserialize: (bytes: Buffer): object => type.toObject(type.decode(bytes), conversion),
  })) as [Codec, Codec];
  return {
    path: `/${service}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: request.serialize,
    requestDeserialize: request.deserialize,
    responseSerialize: response.serialize,
    responseDeserialize: response.deserialize,
  };
}

interface Codec {
  serialize(value: object): Buffer;
  deserialize(bytes: Buffer): object;
}
