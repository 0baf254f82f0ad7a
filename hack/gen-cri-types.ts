// Writes src/cri-api/types.ts from proto/api.proto. Run by `npm run generate`; a unit test holds the two together.
import { readFileSync, writeFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const scalars: Record<string, string> = {
  string: 'string',
  bool: 'boolean',
  bytes: 'Uint8Array',
  int32: 'number',
  uint32: 'number',
  float: 'number',
  double: 'number',
  int64: 'Int64',
  uint64: 'Int64',
};

const header = `// Generated from proto/api.proto by hack/gen-cri-types.ts. Do not edit.
// The shapes are what the decoder hands out: camelCase names, every scalar, list and map present, an absent message null.

/** A 64-bit integer. Decoded as a decimal string, so that nothing is lost; a number or a string may be sent. */
export type Int64 = string | number;
`;

/** TypeScript source of every enum, message and service of the CRI contract in \`protoSource\`. */
export function generate(protoSource: string): string {
  const { root } = protobuf.parse(protoSource, { keepCase: false });
  const contract = root.lookup('runtime.v1');
  if (!(contract instanceof protobuf.Namespace)) throw new Error('proto/api.proto has no package runtime.v1');
  const parts = contract.nestedArray.map(item => {
    if (item instanceof protobuf.Enum) return enumSource(item);
    if (item instanceof protobuf.Service) return serviceSource(item);
    if (item instanceof protobuf.Type) return messageSource(item, contract);
    throw new Error(`proto/api.proto: ${item.fullName} is of a kind that the generator does not know`);
  });
  return [header, ...parts].join('\n');
}

function enumSource(item: protobuf.Enum): string {
  return `export type ${item.name} = ${Object.keys(item.values)
    .map(name => `'${name}'`)
    .join(' | ')};\n`;
}

function messageSource(item: protobuf.Type, contract: protobuf.Namespace): string {
  const enums = item.nestedArray.filter(nested => nested instanceof protobuf.Enum).map(enumSource);
  if (item.fieldsArray.length === 0) return `export type ${item.name} = Record<never, never>;\n`;
  const fields = item.fieldsArray.map(field => `  ${field.name}: ${fieldType(field, contract)};\n`);
  return `${enums.join('\n')}export interface ${item.name} {\n${fields.join('')}}\n`;
}

function fieldType(field: protobuf.Field, contract: protobuf.Namespace): string {
  const isScalar = field.type in scalars;
  const one = scalars[field.type] ?? field.type;
  if (field instanceof protobuf.MapField) return `Record<string, ${one}>`;
  if (field.repeated) return `${one}[]`;
  const isMessage = !isScalar && contract.lookup(field.type) instanceof protobuf.Type;
  return isMessage ? `${one} | null` : one;
}

function serviceSource(item: protobuf.Service): string {
  const methods = item.methodsArray.map(
    m =>
      `  ${m.name}: { request: ${m.requestType}; response: ${m.responseType}; stream: ${m.responseStream === true} };\n`,
  );
  return `export interface ${item.name}Methods {\n${methods.join('')}}\n`;
}

if (process.argv[1]?.endsWith('gen-cri-types.ts')) {
  const here = (path: string) => new URL(`../${path}`, import.meta.url);
  writeFileSync(here('src/cri-api/types.ts'), generate(readFileSync(here('proto/api.proto'), 'utf8')));
}
