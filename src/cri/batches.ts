// The Stream* lists send many objects as messages that stay far below gRPC's message size.

const objectsAtOnce = 100;

/** `items` in runs of a hundred; one empty run when there are none, so that a client sees an answer. */
export function* inBatches<T>(items: readonly T[]): Iterable<readonly T[]> {
  if (items.length === 0) yield [];
  for (let i = 0; i < items.length; i += objectsAtOnce) yield items.slice(i, i + objectsAtOnce);
}
