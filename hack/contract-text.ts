// Writes a .proto as a canonical text: what matters on the wire and in generated code, one fact a line,
// sorted, without comments or layout. Two files describe the same contract exactly if their texts are equal,
// so this shows what another version of Kubernetes has changed:
//   diff <(npx tsx hack/contract-text.ts theirs.proto) <(npx tsx hack/contract-text.ts proto/api.proto)
// test/unit/cri-api/contract.test.ts keeps a digest of the text.
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

/** The canonical text of every enum, message and service in `protoSource`. Ends in a newline. */
export function contractText(protoSource: string): string {
  const { root, package: name } = protobuf.parse(protoSource, { keepCase: true });
  root.resolveAll();
  return `${[`package ${name ?? ''}`, ...nested(root).map(block).sort()].join('\n')}\n`;
}

/** Everything within `space`, at any depth, that is more than a name. */
function nested(space: protobuf.NamespaceBase): protobuf.ReflectionObject[] {
  return space.nestedArray.flatMap(item => {
    const inner = item instanceof protobuf.Namespace ? nested(item) : [];
    return item.constructor === protobuf.Namespace ? inner : [item, ...inner];
  });
}

function block(item: protobuf.ReflectionObject): string {
  const [kind, facts] = content(item);
  return [`${kind} ${item.fullName}${options(item)}`, ...facts.map(fact => `  ${fact}`)].join('\n');
}

function content(item: protobuf.ReflectionObject): [kind: string, facts: string[]] {
  if (item instanceof protobuf.Enum) {
    const values = Object.entries(item.values).sort(([, a], [, b]) => a - b);
    return ['enum', values.map(([name, number]) => `${number} ${name}`)];
  }
  if (item instanceof protobuf.Service) return ['service', item.methodsArray.map(methodText).sort()];
  if (item instanceof protobuf.Type) {
    return ['message', item.fieldsArray.toSorted((a, b) => a.id - b.id).map(fieldText)];
  }
  throw new Error(`${item.fullName} is of a kind that the canonical text does not know`);
}

function methodText(method: protobuf.Method): string {
  const message = (type: protobuf.Type | null, stream: boolean | undefined) =>
    `(${stream === true ? 'stream ' : ''}${type?.fullName ?? '?'})`;
  const request = message(method.resolvedRequestType, method.requestStream);
  const response = message(method.resolvedResponseType, method.responseStream);
  return `${method.name} ${request} returns ${response}${options(method)}`;
}

function fieldText(field: protobuf.Field): string {
  const type = field.resolvedType?.fullName ?? field.type;
  const key = field instanceof protobuf.MapField ? `map ${field.keyType} to ` : '';
  const many = field.repeated ? `repeated ${field.packed ? '' : 'unpacked '}` : '';
  const choice = field.partOf ? ` oneof ${field.partOf.name}` : '';
  return `${field.id} ${field.name}: ${key}${many}${type}${choice}${options(field)}`;
}

/** The options that stand in the file, such as deprecated. */
function options(item: protobuf.ReflectionObject): string {
  const set = Object.entries(item.options ?? {}).map(([name, value]) => ` [${name} = ${value}]`);
  return set.sort().join('');
}

if (process.argv[1]?.endsWith('contract-text.ts')) {
  const [file] = process.argv.slice(2);
  if (file === undefined) throw new Error('usage: npx tsx hack/contract-text.ts <file.proto>');
  process.stdout.write(contractText(readFileSync(file, 'utf8')));
}
