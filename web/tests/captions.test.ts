import { describe, expect, test } from 'vitest';
import { applyCaption, latestLine, MAX_CAPTION_LINES, type CaptionLine } from '../src/client/captions';
import type { Caption } from '../src/client';
import { caption } from './samples';

const apply = (...captions: Partial<Caption>[]) =>
  captions.reduce<CaptionLine[]>((lines, change, index) => applyCaption(lines, caption(change), index), []);

describe('captions', () => {
  test('a revision replaces the line, split at the stable prefix', () => {
    const lines = apply({ text: 'good mor', rev: 0 }, { text: 'good morning all', stable_chars: 12, rev: 1 });
    expect(lines).toHaveLength(1);
    expect([lines[0]?.stable, lines[0]?.interim]).toEqual(['good morning', ' all']);
  });

  test('a late revision is ignored', () => {
    const lines = apply({ text: 'new', rev: 2 }, { text: 'old', rev: 1 }, { text: 'again', rev: 2 });
    expect(lines[0]?.interim).toBe('new');
  });

  test('stable_chars counts code points, not UTF-16 units', () => {
    const [line] = apply({ text: '𠮷野 says 👋 hi', stable_chars: 9 });
    expect([line?.stable, line?.interim]).toEqual(['𠮷野 says 👋', ' hi']);
  });

  test('everything in a final line is stable, and an empty final removes the line', () => {
    expect(apply({ text: 'done.', stable_chars: 2, final: true })[0]).toMatchObject({ stable: 'done.', interim: '' });
    expect(apply({ text: 'uh', rev: 0 }, { text: '', rev: 1, final: true })).toEqual([]);
  });

  test('two speakers who talk at once keep their own lines', () => {
    const lines = apply(
      { text: 'a', segment_id: 's1' },
      { text: 'b', segment_id: 's2', participant_id: 'noor' },
      { text: 'a a', segment_id: 's1', rev: 1 },
    );
    expect(lines.map((line) => line.interim)).toEqual(['a a', 'b']);
    expect(latestLine(lines, 'noor')?.interim).toBe('b');
    expect(latestLine(lines, 'nobody')).toBeNull();
  });

  test('the oldest lines are dropped', () => {
    const many = Array.from({ length: MAX_CAPTION_LINES + 3 }, (_, index) => ({ segment_id: `s${index}`, text: 'x' }));
    const lines = apply(...many);
    expect(lines).toHaveLength(MAX_CAPTION_LINES);
    expect(lines[0]?.segmentId).toBe('s3');
  });
});
