// What operations under way are using and no record mentions yet: blobs by digest, layers by chainID, layer
// directories by number. Garbage collection leaves it alone. In memory only, because a kill ends the
// operations too.
export interface Leases {
  /** Holds `keys` until the returned function is called. */
  hold(keys: Iterable<string>): () => void;
  has(key: string): boolean;
}

export function createLeases(): Leases {
  const counts = new Map<string, number>();
  return {
    hold(keys) {
      const held = [...keys];
      for (const key of held) counts.set(key, (counts.get(key) ?? 0) + 1);
      let released = false;
      return () => {
        if (released) return;
        released = true;
        for (const key of held) {
          const left = (counts.get(key) ?? 1) - 1;
          if (left === 0) counts.delete(key);
          else counts.set(key, left);
        }
      };
    },
    has: key => counts.has(key),
  };
}
