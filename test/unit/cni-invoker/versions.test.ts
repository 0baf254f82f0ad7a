import { describe, expect, it } from 'vitest';
import { atLeast, highestKnown, negotiate, specVersions } from '../../../src/cni-invoker/versions.ts';

describe('highestKnown', () => {
  it('compares versions by their place in the history and passes over unknown ones', () => {
    expect(highestKnown(['0.3.1', '1.0.0', '0.4.0'])).toBe('1.0.0');
    expect(highestKnown(['0.4.0', '2.0.0', '1.2.0'])).toBe('0.4.0');
    expect(highestKnown(['9.9.9'])).toBeUndefined();
    expect(atLeast('1.0.0', '0.4.0')).toBe(true);
    expect(atLeast('0.3.1', '0.4.0')).toBe(false);
  });
});

describe('negotiate', () => {
  const upTo1 = specVersions.filter(version => version !== '1.1.0');

  it('takes the highest declared version when nothing is known of the plugins', () => {
    expect(negotiate(['0.4.0', '1.1.0'], [])).toBe('1.1.0');
  });

  it('takes the highest declared version that all plugins support', () => {
    expect(negotiate(['0.3.1', '0.4.0', '1.1.0'], [specVersions, ['0.3.1', '0.4.0', '1.0.0']])).toBe('0.4.0');
  });

  it('goes down to an undeclared version when the plugins support no declared one', () => {
    expect(negotiate(['1.1.0'], [upTo1])).toBe('1.0.0');
  });

  it('never goes up to a newer version than the configuration declares', () => {
    expect(negotiate(['0.2.0'], [['0.3.0', '0.3.1', '0.4.0', '1.0.0']])).toBeUndefined();
  });

  it('finds none when two plugins share no version', () => {
    expect(
      negotiate(
        ['1.0.0'],
        [
          ['0.1.0', '0.2.0'],
          ['0.3.0', '1.0.0'],
        ],
      ),
    ).toBeUndefined();
  });
});
