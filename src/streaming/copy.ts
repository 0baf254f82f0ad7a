// Copies one direction of a conversation, with back-pressure, and half-closes at its end.
import type { Readable, Writable } from 'node:stream';

/**
 * Reads `from` to its end, then ends `to`. Resolves when `to` has taken everything.
 * Rejects when either side breaks; both are left to the caller then.
 */
export function copy(from: Readable, to: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    const listeners: [Readable | Writable, string, (error?: Error) => void][] = [
      [from, 'error', error => fail(error ?? new Error('the source failed'))],
      [from, 'close', () => from.readableEnded || fail(new Error('the source was closed before its end'))],
      [to, 'error', error => fail(error ?? new Error('the destination failed'))],
      [to, 'finish', () => settle(resolve)],
      [to, 'close', () => to.writableFinished || fail(new Error('the destination was closed too early'))],
    ];
    const settle = (how: () => void): void => {
      for (const [stream, event, listener] of listeners) stream.off(event, listener);
      how();
    };
    const fail = (error: Error): void => {
      from.unpipe(to);
      settle(() => reject(error));
    };
    for (const [stream, event, listener] of listeners) stream.on(event, listener);
    if (to.destroyed) fail(new Error('the destination is closed'));
    else if (from.destroyed && !from.readableEnded) fail(new Error('the source is closed'));
    else if (from.readableEnded) to.end();
    else from.pipe(to);
  });
}

/** Reads and forgets what is left, so that what comes behind it on the same connection is not held up. */
export function discard(stream: Readable): void {
  stream.unpipe();
  stream.on('error', () => {});
  stream.resume();
}

/**
 * Ends a stream behind a last piece of text. Resolves when everything written has gone, also when nobody is there any
 * more to take it.
 */
export function endWith(stream: Writable | undefined, last = ''): Promise<void> {
  return new Promise(resolve => {
    if (!stream || stream.destroyed || stream.writableFinished) {
      resolve();
      return;
    }
    stream.once('finish', resolve);
    stream.once('close', resolve);
    if (!stream.writableEnded) stream.end(last);
  });
}
