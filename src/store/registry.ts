// The live objects of one kind (sandboxes, containers): found by id, by a unique prefix of an id, and by a name that
// only one may hold. In memory; what must survive is in the records.
import { CriError } from '../errors.ts';

export interface Registry<T> {
  /** The object with this id, or whose id alone begins with it. @throws CriError notFound, ambiguousId, invalidArgument */
  find(idOrPrefix: string): T;
  /** As find, but undefined when there is none. */
  lookup(idOrPrefix: string): T | undefined;
  all(): T[];
  add(object: T): void;
  remove(id: string): void;
  /** Takes the name for `id`. @throws CriError nameReserved when another id holds it */
  reserve(name: string, id: string): void;
  /** Gives the name back, if `id` holds it. */
  release(name: string, id: string): void;
}

/** @param kind what the objects are called in errors: `sandbox`, `container` */
export function createRegistry<T extends { readonly id: string }>(kind: string): Registry<T> {
  const byId = new Map<string, T>();
  const holders = new Map<string, string>();

  function lookup(idOrPrefix: string): T | undefined {
    if (idOrPrefix === '') throw new CriError('invalidArgument', `no ${kind} id was given`);
    const exact = byId.get(idOrPrefix);
    if (exact) return exact;
    const matches = [...byId.keys()].filter(id => id.startsWith(idOrPrefix));
    if (matches.length > 1) {
      throw new CriError(
        'ambiguousId',
        `${kind} id ${idOrPrefix} fits ${matches.length} ${kind === 'sandbox' ? 'sandboxes' : `${kind}s`}: give more of it`,
      );
    }
    return matches[0] === undefined ? undefined : byId.get(matches[0]);
  }

  return {
    lookup,
    find(idOrPrefix) {
      const found = lookup(idOrPrefix);
      if (!found) throw new CriError('notFound', `${kind} ${idOrPrefix} does not exist`);
      return found;
    },
    all: () => [...byId.values()],
    add(object) {
      byId.set(object.id, object);
    },
    remove(id) {
      byId.delete(id);
    },
    reserve(name, id) {
      const holder = holders.get(name);
      if (holder !== undefined && holder !== id) {
        throw new CriError(
          'nameReserved',
          `the ${kind} name ${name} is reserved for ${kind} ${holder}: remove that one first`,
        );
      }
      holders.set(name, id);
    },
    release(name, id) {
      if (holders.get(name) === id) holders.delete(name);
    },
  };
}
