import { describe, expect, it } from 'vitest';
import { hereDocument, word } from '../../../src/explain/shell.ts';
import { timeline } from '../../../src/explain/text.ts';

const step = (name: string, began: number, ms: number) => ({ name, began, ms, note: '', commands: [] });

describe('the timeline', () => {
  it('puts bars where the steps were, side by side when they ran together', () => {
    const [first = '', second = '', third = '', total = ''] = timeline([
      step('one', 1000, 48),
      step('two', 1048, 48),
      step('beside two', 1048, 48),
    ]).split('\n');
    expect(first.match(/#+/)?.[0]).toHaveLength(24);
    expect(second.indexOf('#')).toBe(first.indexOf('#') + 24);
    expect(third.indexOf('#')).toBe(second.indexOf('#'));
    expect(total).toContain('96.0 ms');
  });

  it('shows a step that took next to nothing', () => {
    expect(timeline([step('long', 0, 100), step('short', 50, 0)])).toMatch(/^short +0\.0 ms +\|$/m);
  });

  it('says when there is nothing to show', () => {
    expect(timeline([])).toContain('no times');
  });
});

describe('words for a shell', () => {
  it.each([
    ['plain', 'plain'],
    ['/usr/lib/cni/bridge', '/usr/lib/cni/bridge'],
    ['two words', "'two words'"],
    ["it's", "'it'\\''s'"],
    ['$(reboot)', "'$(reboot)'"],
    ['', "''"],
  ])('%s', (text, expected) => {
    expect(word(text)).toBe(expected);
  });

  it('a here-document ends where its text does not', () => {
    expect(hereDocument('a\nEND\nb')).toBe("<<'END_OF_TEXT'\na\nEND\nb\nEND_OF_TEXT");
  });
});
