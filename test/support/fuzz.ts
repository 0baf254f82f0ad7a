// What fuzz tests share: a seed that is told and can be given, a bound in time, and ways to spoil bytes, texts and JSON.
// FUZZ_SEED repeats a run, FUZZ_SECONDS makes each of them longer.
import { createRandom } from './image/make-image.ts';

export interface Fuzz {
  readonly seed: number;
  /** Runs `round` again and again, until its share of time is used up, but so often at least; returns how often. */
  during(seconds: number, round: (count: number) => Promise<void> | void, atLeast?: number): Promise<number>;
  /** A whole number from 0 up to, and not including, `limit`. */
  below(limit: number): number;
  chance(probability: number): boolean;
  pick<T>(values: readonly T[]): T;
  bytes(length: number): Buffer;
  /** Text that programs trip over. */
  text(): string;
  /** A number that programs trip over, as a 64-bit integer. */
  integer(): bigint;
  /** The bytes with some changed, cut, doubled or put in. */
  spoilBytes(bytes: Buffer): Buffer;
  /** The text with some of it changed, cut, doubled or put in. */
  spoilText(text: string, words: readonly string[]): string;
  /** The value with some part of it replaced, dropped or wrapped. */
  spoilJson(value: unknown): unknown;
}

const texts = [
  '',
  ' ',
  'a',
  '..',
  '../../../..',
  '/',
  '-rf',
  '--help',
  '%s%n',
  '\0',
  'a\0b',
  '\n',
  '"',
  '\u202e',
  'ä\u{1f600}',
  '\ud800',
  '{}',
  'null',
  '__proto__',
  'constructor',
  '0',
  '-1',
  '99999999999999999999',
  '$(id)',
  ';id',
];

const integers = [
  0n,
  1n,
  -1n,
  2n,
  10n,
  255n,
  65_536n,
  2n ** 31n - 1n,
  2n ** 31n,
  -(2n ** 31n),
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  -(2n ** 63n),
];

export function createFuzz(): Fuzz {
  const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
  const random = createRandom(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const chance = (probability: number) => random() < probability;
  const pick = <T>(values: readonly T[]): T => {
    if (values.length === 0) throw new Error('nothing to pick from');
    return values[below(values.length)] as T;
  };
  const bytes = (length: number) => Buffer.from(Array.from({ length }, () => below(256)));
  const text = () => {
    if (chance(0.05)) return pick(['x', 'ä', '/', '\n']).repeat(pick([64, 300, 5000, 70_000]));
    return chance(0.2) ? bytes(below(20)).toString('latin1') : pick(texts);
  };
  const integer = () => (chance(0.3) ? BigInt(below(2 ** 31)) : pick(integers));

  function spoilJson(value: unknown, depth = 0): unknown {
    if (Array.isArray(value)) {
      if (chance(0.1)) return chance(0.5) ? [...value, ...value] : [];
      return value.map(item => (chance(0.4) ? spoilJson(item, depth + 1) : item));
    }
    if (typeof value === 'object' && value !== null && (depth === 0 || chance(0.85))) {
      const entries = Object.entries(value).flatMap(([key, item]) => {
        if (chance(0.05)) return [];
        return [[chance(0.03) ? text() : key, chance(0.4) ? spoilJson(item, depth + 1) : item]];
      });
      return Object.fromEntries(entries);
    }
    const nested = () => Array.from({ length: 200 }).reduce<unknown>(inner => [inner], value);
    return pick<() => unknown>([
      text,
      () => Number(integer()),
      () => null,
      () => true,
      () => [],
      () => ({}),
      () => [value],
      () => ({ value }),
      () => 1e308,
      nested,
    ])();
  }

  return {
    seed,
    async during(seconds, round, atLeast = 0) {
      const until = Date.now() + Number(process.env.FUZZ_SECONDS ?? seconds) * 1000;
      let count = 0;
      while (Date.now() < until || count < atLeast) await round(count++);
      return count;
    },
    below,
    chance,
    pick,
    bytes,
    text,
    integer,
    spoilBytes(whole) {
      let spoilt: Buffer = Buffer.from(whole);
      for (let changes = 1 + below(6); changes > 0; changes--) {
        const at = below(spoilt.length + 1);
        const [head, tail] = [spoilt.subarray(0, at), spoilt.subarray(at)];
        spoilt = pick<() => Buffer>([
          () => Buffer.concat([head, bytes(1), tail.subarray(1)]),
          () => Buffer.concat([head, Buffer.from([pick([0, 1, 0x7f, 0x80, 0xff])]), tail.subarray(1)]),
          () => Buffer.concat([head, bytes(below(9)), tail]),
          () => Buffer.concat([head, tail.subarray(below(9))]),
          () => Buffer.concat([head, tail.subarray(0, below(40)), tail]),
          () => (chance(0.2) ? Buffer.from(head) : spoilt),
        ])();
      }
      return spoilt;
    },
    spoilText(whole, words) {
      let spoilt = whole;
      for (let changes = 1 + below(5); changes > 0; changes--) {
        const at = below(spoilt.length + 1);
        const [head, tail] = [spoilt.slice(0, at), spoilt.slice(at)];
        spoilt = pick<() => string>([
          () => head + pick(words) + tail,
          () => head + text() + tail,
          () => head + tail.slice(1 + below(30)),
          () => head + tail.slice(0, below(60)) + tail,
          () => (chance(0.2) ? head : spoilt),
        ])();
      }
      return spoilt;
    },
    spoilJson,
  };
}
