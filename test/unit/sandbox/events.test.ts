// The hub of pod events: who hears what, and what a listener that does not read costs.
import { describe, expect, it } from 'vitest';
import { createPodEvents, type PodEvent } from '../../../src/sandbox/events.ts';

const event = (containerId: string): PodEvent => ({
  type: 'CONTAINER_CREATED_EVENT',
  containerId,
  sandboxId: 'pod',
  at: '1',
});

async function take(events: AsyncIterable<PodEvent>, count: number): Promise<string[]> {
  const ids: string[] = [];
  for await (const { containerId } of events) if (ids.push(containerId) === count) break;
  return ids;
}

describe('pod events', () => {
  it('are heard from the moment of listening, before the first read', async () => {
    const hub = createPodEvents();
    hub.publish(event('before'));
    const events = hub.listen(new AbortController().signal);
    hub.publish(event('a'));
    hub.publish(event('b'));
    expect(await take(events, 2)).toEqual(['a', 'b']);
  });

  it('are kept for a listener that does not read, the newest ten thousand', async () => {
    const hub = createPodEvents();
    const slow = hub.listen(new AbortController().signal);
    for (let i = 0; i < 10_050; i++) hub.publish(event(String(i)));
    const kept = await take(slow, 10_000);
    expect([kept[0], kept.at(-1)]).toEqual(['50', '10049']);
  });

  it('end for a listener whose signal aborts, also while it waits', async () => {
    const hub = createPodEvents();
    const abort = new AbortController();
    const ended = take(hub.listen(abort.signal), 1);
    abort.abort();
    expect(await ended).toEqual([]);
  });

  it('end for all when the hub closes', async () => {
    const hub = createPodEvents();
    const listeners = [1, 2].map(() => take(hub.listen(new AbortController().signal), 1));
    hub.close();
    expect(await Promise.all(listeners)).toEqual([[], []]);
  });
});
