// The RPCs of cri_ts.v1.Images (proto/cri-ts.proto): what `cri-ts image` asks of the running daemon.
import type { ImageEventMessage, OperatorMethods, VerifyEventMessage } from '../cri-api/operator.ts';
import type { LayerProgress } from '../image/layers.ts';
import type { Call, Parts } from './parts.ts';

type OperatorStream<Name extends keyof OperatorMethods> = (
  parts: Pick<Parts, 'images'>,
  request: OperatorMethods[Name]['request'],
  call: Call,
) => AsyncIterable<OperatorMethods[Name]['response']>;

type OperatorRpc<Name extends keyof OperatorMethods> = (
  parts: Pick<Parts, 'images'>,
  request: OperatorMethods[Name]['request'],
  call: Call,
) => Promise<OperatorMethods[Name]['response']>;

const pull: OperatorStream<'Pull'> = ({ images }, { image, username, password }, { signal }) =>
  events<ImageEventMessage>(async emit => {
    const auth = username === '' ? {} : { auth: { username, password } };
    const id = await images.pull(image, {
      ...auth,
      signal,
      onProgress: progress => emit(layerEvent(progress)),
    });
    const { repoTags, repoDigests } = images.resolve(id);
    emit({ image: { id, names: [...repoTags, ...repoDigests] } });
  });

const importFile: OperatorStream<'Import'> = ({ images }, { file, name }, { signal }) =>
  events<ImageEventMessage>(async emit => {
    const imported = await images.import(file, {
      ...(name === '' ? {} : { name }),
      signal,
      onProgress: progress => emit(layerEvent(progress)),
    });
    for (const image of imported) emit({ image });
  });

const exportImages: OperatorRpc<'Export'> = async ({ images }, request, { signal }) => {
  await images.export(request.images, request.file, { signal });
  return {};
};

const prune: OperatorRpc<'Prune'> = ({ images }) => images.prune();

const verify: OperatorStream<'Verify'> = ({ images }, _, { signal }) =>
  events<VerifyEventMessage>(async emit => {
    await images.verify({ signal, onProgress: emit });
  });

export const operatorRpcs = { Export: exportImages, Prune: prune };
export const operatorStreams = { Pull: pull, Import: importFile, Verify: verify };

const layerEvent = (layer: LayerProgress): ImageEventMessage => ({ layer });

/** What `work` emits, as a stream that ends or fails with it. Nothing is dropped: events are few and small. */
async function* events<T>(work: (emit: (event: T) => void) => Promise<void>): AsyncGenerator<T> {
  const queue: T[] = [];
  let wake = () => {};
  let ended = false;
  const done = work(event => {
    queue.push(event);
    wake();
  }).finally(() => {
    ended = true;
    wake();
  });
  done.catch(() => {}); // awaited below, after what was emitted before
  for (;;) {
    yield* queue.splice(0);
    if (queue.length > 0) continue;
    if (ended) break;
    await new Promise<void>(resolve => {
      wake = resolve;
      if (queue.length > 0 || ended) resolve();
    });
  }
  yield* queue.splice(0);
  await done;
}
