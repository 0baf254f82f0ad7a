// Every RPC, with messages that are random bytes, spoilt bytes, or made from the contract's own types. Whatever comes, the
// daemon answers in words, goes on serving, takes no more memory than a bound, and what it made meanwhile can be removed.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, credentials, status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { afterOnePod, cleanUp, type Everything, untilAsBefore } from '../support/everything.ts';
import { createFuzz } from '../support/fuzz.ts';
import { startNode, type TestNode } from '../support/node.ts';

const fuzz = createFuzz();
const { pick, chance, below } = fuzz;

const root = protobuf.loadSync(fileURLToPath(new URL('../../proto/api.proto', import.meta.url)));
const methods = ['RuntimeService', 'ImageService'].flatMap(service =>
  Object.values(root.lookupService(`runtime.v1.${service}`).methods).map(method => ({
    name: method.name,
    path: `/runtime.v1.${service}/${method.name}`,
    type: root.lookupType(`runtime.v1.${method.requestType}`),
    stream: method.responseStream ?? false,
  })),
);
type Method = (typeof methods)[number];
type Message = Record<string, unknown>;

let node: TestNode;
let before: Everything;
let client: Client;
beforeAll(async () => {
  node = await startNode();
  before = await afterOnePod(node);
  mkdirSync(join(node.directory, 'host'));
  writeFileSync(join(node.directory, 'host', 'seccomp.json'), '{"defaultAction":"SCMP_ACT_ALLOW"}');
  client = new Client(`unix:${node.socket}`, credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await node.destroy();
});

/** Text as protobuf can carry it. */
const wellFormed = () => Buffer.from(fuzz.text()).toString();

/** What lives at the moment, to be named in requests. */
let ids = { pods: [''], containers: [''] };
async function lookAround(): Promise<void> {
  const [pods, containers] = await Promise.all([node.cri.ListPodSandbox(), node.cri.ListContainers()]);
  ids = { pods: pods.items.map(({ id }) => id), containers: containers.containers.map(({ id }) => id) };
  if (ids.pods.length < 8) return;
  await cleanUp(node);
  ids = { pods: [], containers: [] };
}

const anId = (of: readonly string[]) => {
  const id = of.length > 0 ? pick(of) : '';
  return pick([id, id, id, id.slice(0, 12), `${id}0`, fuzz.text()]);
};

/**
 * Values for fields by name: what reaches into the host is kept to the node's own directories, and what exists is named
 * often, so that requests get far.
 */
function known(type: string, field: string): unknown {
  const own = (...names: string[]) => pick(names.map(name => join(node.directory, name)));
  switch (field) {
    case 'podSandboxId':
      return anId(ids.pods);
    case 'containerId':
    case 'targetId':
      return anId(ids.containers);
    case 'id':
      return anId([...ids.pods, ...ids.containers]);
    case 'hostPath':
      return type === 'Device'
        ? pick(['/dev/null', '/dev/zero', '/dev/nothing', 'dev', ''])
        : pick([
            own('host', 'host/new', 'host/seccomp.json/x', `host/${'x'.repeat(300)}`),
            'relative',
            '',
            'a\0b',
          ]);
    case 'containerPath':
      return pick([
        '/mnt',
        '/mnt/x',
        '/a/../..',
        '/proc',
        '/proc/self',
        '/dev/null',
        '/',
        '',
        '/etc/passwd',
        '/\0',
        'x',
      ]);
    case 'logDirectory':
      return pick([own('logs/fuzz', 'host/seccomp.json'), '', `${node.directory}/\0`]);
    case 'logPath':
      return pick(['0.log', 'a/b/0.log', '../0.log', '/0.log', '.', '\0', 'x'.repeat(300)]);
    case 'cgroupParent':
      return pick([node.cgroupParent, node.cgroupParent, 'x.slice', '../..', '\0']);
    case 'seccompProfilePath':
    case 'localhostRef':
      return pick([own('host/seccomp.json', 'host'), 'localhost/x', 'runtime/default', '/nonexistent', '']);
    case 'command':
    case 'cmd':
      return pick([['sleep', '1000'], ['true'], ['sh', '-c', 'exit 3'], ['yes'], [''], [], [fuzz.text()]]);
    case 'args':
      return pick([[], [], ['1']]);
    case 'timeout':
      return pick([0n, 1n, -1n, 2n ** 63n - 1n]);
    case 'runtimeHandler':
      return pick(['', '', 'runc', 'missing', fuzz.text()]);
    case 'sysctls':
      return pick([{}, { 'net.ipv4.ip_forward': '1' }, { 'kernel.shm_rmid_forced': 'x' }, { '../x': '' }]);
    case 'podCidr':
      return pick(['', '10.0.0.0/24', 'x']);
    default:
      return type === 'ImageSpec' && (field === 'image' || field === 'userSpecifiedImage')
        ? pick(['test/busybox:latest', 'test/busybox:latest', '127.0.0.1:1/x', 'a@sha256:0', fuzz.text()])
        : undefined;
  }
}

function scalarOrMessage(field: protobuf.Field, parent: string, depth: number): unknown {
  const { resolvedType, type } = field.resolve();
  if (resolvedType instanceof protobuf.Enum) {
    return chance(0.9) ? pick(Object.values(resolvedType.values)) : Number(BigInt.asIntN(32, fuzz.integer()));
  }
  if (resolvedType instanceof protobuf.Type) return messageOf(resolvedType, depth + 1);
  switch (type) {
    case 'string':
      return wellFormed();
    case 'bytes':
      return fuzz.bytes(below(30));
    case 'bool':
      return chance(0.5);
    case 'double':
    case 'float':
      return pick([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1e308]);
    case 'int64':
    case 'uint64':
    case 'sint64':
      return BigInt.asIntN(64, fuzz.integer()).toString();
    case 'int32':
    case 'uint32':
      return Number(BigInt.asIntN(32, fuzz.integer()));
    default:
      throw new Error(`${parent}.${field.name}: no values for type ${type}`);
  }
}

function fieldValue(field: protobuf.Field, parent: string, depth: number): unknown {
  const value = known(parent, field.name);
  if (value !== undefined) return typeof value === 'bigint' ? value.toString() : value;
  const one = () => scalarOrMessage(field, parent, depth);
  if (field instanceof protobuf.MapField) {
    return Object.fromEntries(Array.from({ length: below(3) }, () => [wellFormed(), one()]));
  }
  return field.repeated ? Array.from({ length: pick([0, 1, 1, 2, 5]) }, one) : one();
}

/** A message with some of its fields. */
function messageOf(type: protobuf.Type, depth = 0): Message {
  const message: Message = {};
  for (const field of type.fieldsArray) {
    if (depth < 7 && chance(depth === 0 ? 0.8 : 0.4))
      message[field.name] = fieldValue(field, type.name, depth);
  }
  return message;
}

/** The message with a few fields, at any depth, replaced. */
function spoilMessage(type: protobuf.Type, message: Message, depth = 0): Message {
  const spoilt = { ...message };
  for (let changes = 1 + below(2); changes > 0; changes--) {
    const field = pick(type.fieldsArray).resolve();
    const inner = spoilt[field.name];
    const goesOn =
      field.resolvedType instanceof protobuf.Type && !field.repeated && !(field instanceof protobuf.MapField);
    spoilt[field.name] =
      goesOn && chance(0.9) && field.resolvedType instanceof protobuf.Type
        ? spoilMessage(field.resolvedType, (inner as Message | undefined) ?? {}, depth + 1)
        : fieldValue(field, type.name, depth);
  }
  return spoilt;
}

let names = 0;
/** A request that is right, where there is one that does something. */
function rightRequest({ name }: Method): Message | undefined {
  const podSandboxId = ids.pods.length > 0 ? pick(ids.pods) : '';
  const containerId = ids.containers.length > 0 ? pick(ids.containers) : '';
  const metadata = { name: `fuzz-${names++}`, namespace: 'fuzz', uid: 'u' };
  const image = { image: 'test/busybox:latest' };
  switch (name) {
    case 'RunPodSandbox':
      return {
        config: {
          metadata,
          logDirectory: join(node.directory, 'logs', 'fuzz'),
          linux: { cgroupParent: node.cgroupParent },
        },
      };
    case 'CreateContainer':
      return {
        podSandboxId,
        config: { metadata, image, command: ['sleep', '1000'], logPath: `${metadata.name}.log` },
      };
    case 'ExecSync':
      return { containerId, cmd: ['echo', 'x'], timeout: 1 };
    case 'Exec':
    case 'Attach':
      return { containerId, cmd: ['true'], stdout: true };
    case 'PortForward':
      return { podSandboxId, port: [80] };
    case 'StopPodSandbox':
    case 'RemovePodSandbox':
    case 'PodSandboxStatus':
      return { podSandboxId };
    case 'StartContainer':
    case 'StopContainer':
    case 'RemoveContainer':
    case 'ContainerStatus':
    case 'UpdateContainerResources':
    case 'ReopenContainerLog':
      return { containerId };
    default:
      return undefined;
  }
}

function payload(method: Method): Buffer {
  const { type, name } = method;
  if (chance(0.08)) return fuzz.bytes(below(200));
  const right = rightRequest(method);
  const message = right && chance(0.7) ? (chance(0.35) ? right : spoilMessage(type, right)) : messageOf(type);
  // The image that tests run is not to be removed.
  if (name === 'RemoveImage' && message.image) message.image = { image: wellFormed() };
  const encoded = Buffer.from(type.encode(type.fromObject(message)).finish());
  const reachesTheHost = /RunPodSandbox|CreateContainer|RemoveImage|UpdatePodSandboxResources/.test(name);
  return chance(0.12) && !reachesTheHost ? fuzz.spoilBytes(encoded) : encoded;
}

/**
 * RPCs that wait as long as they are asked to, for the registry, a program or a plugin, or for another RPC that does on the
 * same pod or container: a request may be right and need more time than a caller has here.
 */
const mayWait =
  /^(RunPodSandbox|(Stop|Remove)PodSandbox|(Create|Start|Stop|Remove|Checkpoint)Container|UpdateContainerResources|ExecSync|PullImage)$/;
const waitedMs = 3000;
/** No answer within this is none. */
const answerMs = 60_000;

/** Calls the RPC; resolves with the status, whatever it is. */
function call({ name, path, stream }: Method, bytes: Buffer): Promise<{ code: number; details: string }> {
  const raw = (value: Buffer) => value;
  const options = { deadline: Date.now() + (mayWait.test(name) ? waitedMs : answerMs) };
  return new Promise(resolve => {
    if (!stream) {
      client.makeUnaryRequest(path, raw, raw, bytes, options, error =>
        resolve(error ? { code: error.code, details: error.details } : { code: status.OK, details: '' }),
      );
      return;
    }
    const answers = client.makeServerStreamRequest(path, raw, raw, bytes, options);
    answers.on('data', () => {});
    answers.on('error', () => {});
    answers.on('status', ({ code, details }) => resolve({ code, details }));
    setTimeout(() => answers.cancel(), 100); // those that follow events would go on to the deadline
  });
}

/** Words of exceptions that no one meant to be read. */
const thrownByMistake = /Cannot read propert|is not a function|is not iterable|Maximum call stack/;
const residentMiB = () =>
  Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${node.pid()}/status`, 'latin1'))?.[1]) / 1024;

describe(`with seed ${fuzz.seed}`, () => {
  it('every RPC answers whatever it is sent, and nothing is left', { timeout: 3_600_000 }, async () => {
    const pid = node.pid();
    const outcomes: Record<string, number> = {};
    const called = new Set<string>();
    let most = 0;
    await node.runContainer(await node.runPod(), 'exec sleep 1000');
    const rounds = await fuzz.during(
      6,
      async count => {
        if (count % 10 === 0) await lookAround();
        // Two by turns, so that each is called even in the short form, and two by chance.
        const inTurn = [2 * count, 2 * count + 1].flatMap(n => methods[n % methods.length] ?? []);
        const wanted = [...inTurn, pick(methods), pick(methods)];
        await Promise.all(
          wanted.map(async method => {
            const bytes = payload(method);
            const { code, details } = await call(method, bytes);
            const about = `${method.name} ${bytes.toString('base64').slice(0, 2000)}: ${details}`;
            expect(details, about).not.toMatch(thrownByMistake);
            expect(details, about).not.toMatch(/No connection established|Connection dropped/i);
            if (!mayWait.test(method.name)) expect(code, about).not.toBe(status.DEADLINE_EXCEEDED);
            called.add(method.name);
            outcomes[status[code] ?? code] = (outcomes[status[code] ?? code] ?? 0) + 1;
          }),
        );
        expect((await node.cri.Version()).runtimeName).toBe('cri-ts');
        most = Math.max(most, residentMiB());
      },
      methods.length / 2,
    );
    console.log(
      `fuzzed RPCs: ${rounds * 4} calls of ${called.size} methods, seed ${fuzz.seed}, ${Math.round(most)} MiB resident at most`,
      outcomes,
    );
    expect(called).toEqual(new Set(methods.map(({ name }) => name)));
    expect(node.pid()).toBe(pid);
    expect(process.kill(pid, 0)).toBe(true);
    expect(most).toBeLessThan(400);
    await untilAsBefore(node, before);
  });

  it('what is no gRPC at all on the socket is refused, and others are served', {
    timeout: 3_600_000,
  }, async () => {
    const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    const frame = () => {
      const body = fuzz.bytes(below(60));
      const head = Buffer.from([0, 0, body.length, below(12), below(256), 0, 0, 0, below(6)]);
      return Buffer.concat([head, body]);
    };
    await fuzz.during(1, async () => {
      const parts = [preface, settings, ...Array.from({ length: below(6) }, frame)];
      const bytes = chance(0.2) ? fuzz.bytes(below(500)) : Buffer.concat(parts);
      await new Promise<void>(resolve => {
        const socket = connect(node.socket, () => {
          socket.write(chance(0.5) ? fuzz.spoilBytes(bytes) : bytes);
          setTimeout(() => socket.destroy(), below(20));
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve());
      });
    });
    expect((await node.cri.Version()).runtimeName).toBe('cri-ts');
  });
});
