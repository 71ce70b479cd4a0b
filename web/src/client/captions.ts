// Captions arrive as revisions of segments; here they become lines. Pure functions.

import type { Caption } from './protocol';

export const MAX_CAPTION_LINES = 500;

/** One segment of somebody's speech, as it stands now. `stable` is never taken back, `interim` may still change. */
export interface CaptionLine {
  segmentId: string;
  participantId: string;
  rev: number;
  stable: string;
  interim: string;
  final: boolean;
  quality: Caption['quality'];
  language: string;
  /** `performance.now()` at which this revision came. */
  receivedAtMs: number;
}

/**
 * Apply one revision: newer replaces older, older is ignored, an empty final removes the line. Lines keep the order in
 * which their segments began; at most `MAX_CAPTION_LINES` are kept, the oldest are dropped first.
 */
export function applyCaption(lines: readonly CaptionLine[], caption: Caption, nowMs: number): CaptionLine[] {
  const known = lines.findIndex((line) => line.segmentId === caption.segment_id);
  const previous = lines[known];
  if (previous !== undefined && previous.rev >= caption.rev) return [...lines];
  if (caption.final && caption.text === '') return lines.filter((line) => line.segmentId !== caption.segment_id);
  const line = toLine(caption, nowMs);
  if (previous === undefined) return [...lines, line].slice(-MAX_CAPTION_LINES);
  return lines.with(known, line);
}

function toLine(caption: Caption, nowMs: number): CaptionLine {
  // The server counts code points, JavaScript UTF-16 units: they differ outside the basic plane.
  const characters = Array.from(caption.text);
  const stableChars = caption.final ? characters.length : caption.stable_chars;
  return {
    segmentId: caption.segment_id,
    participantId: caption.participant_id,
    rev: caption.rev,
    stable: characters.slice(0, stableChars).join(''),
    interim: characters.slice(stableChars).join(''),
    final: caption.final,
    quality: caption.quality,
    language: caption.language,
    receivedAtMs: nowMs,
  };
}

/** The line to show under a participant's tile: their newest one. */
export function latestLine(lines: readonly CaptionLine[], participantId: string): CaptionLine | null {
  return lines.findLast((line) => line.participantId === participantId) ?? null;
}
