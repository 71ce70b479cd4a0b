// What was measured and guessed over the last minutes, for timelines. Bounded in time and in number. Pure.

import type { Expression, Prosody, TextEmotion, VoiceEmotion } from './protocol';

export const HISTORY_MS = 10 * 60_000;
/** Beyond it the oldest goes: a flood of findings takes no more than this. Ten minutes at three a second. */
export const MAX_MOMENTS = 2000;

/** One word of a few for what a face shows, a voice sounds like or words say. */
export type Guess = Expression | TextEmotion | VoiceEmotion;

interface About {
  participant_id: string;
  track_id: string;
  /** `performance.now()` at which it came. */
  atMs: number;
}

/** How somebody spoke. */
export interface SpokenMoment extends About {
  kind: Prosody['kind'];
  pitchHz: number | null;
  syllablesPerS: number | null;
}

/** What was guessed. */
export interface GuessedMoment extends About {
  kind: Guess['kind'];
  label: string;
}

export type Moment = SpokenMoment | GuessedMoment;

/** Oldest first. */
export function remember(history: readonly Moment[], finding: Prosody | Guess, nowMs: number): Moment[] {
  const kept = history.filter((moment) => nowMs - moment.atMs < HISTORY_MS);
  return [...kept, toMoment(finding, nowMs)].slice(-MAX_MOMENTS);
}

function toMoment(finding: Prosody | Guess, atMs: number): Moment {
  const about = { participant_id: finding.participant_id, track_id: finding.track_id, atMs };
  if (finding.kind !== 'prosody') return { ...about, kind: finding.kind, label: finding.label };
  return { ...about, kind: finding.kind, pitchHz: finding.pitch_hz, syllablesPerS: finding.syllables_per_s };
}

/** A word that stood for a while. */
export interface Band {
  label: string;
  fromMs: number;
  toMs: number;
}

/** How long a guess stands if no other follows: a face changes within seconds, words are said once. */
export const GUESS_STAYS_MS: Record<Guess['kind'], number> = { expression: 4000, voice_emotion: 15_000, text_emotion: 20_000 };

/** What was guessed about somebody, of one kind, from `fromMs` to `toMs`. The same word again makes the band longer. */
export function bands(history: readonly Moment[], participantId: string, kind: Guess['kind'], fromMs: number, toMs: number): Band[] {
  const found: Band[] = [];
  for (const moment of history) {
    if (moment.kind !== kind || moment.participant_id !== participantId) continue;
    const last = found.at(-1);
    const endMs = moment.atMs + GUESS_STAYS_MS[kind];
    if (last !== undefined && last.toMs >= moment.atMs && last.label === moment.label) {
      last.toMs = endMs;
      continue;
    }
    if (last !== undefined) last.toMs = Math.min(last.toMs, moment.atMs);
    found.push({ label: moment.label, fromMs: moment.atMs, toMs: endMs });
  }
  return found
    .map((band) => ({ ...band, fromMs: Math.max(band.fromMs, fromMs), toMs: Math.min(band.toMs, toMs) }))
    .filter((band) => band.fromMs < band.toMs);
}

/** Of all the time for which something was guessed, how much each word had; the most first. */
export function shares(all: readonly Band[]): { label: string; share: number }[] {
  const byLabel = new Map<string, number>();
  for (const { label, fromMs, toMs } of all) byLabel.set(label, (byLabel.get(label) ?? 0) + toMs - fromMs);
  const wholeMs = [...byLabel.values()].reduce((sum, ms) => sum + ms, 0);
  return [...byLabel].map(([label, ms]) => ({ label, share: ms / wholeMs })).sort((one, other) => other.share - one.share);
}

export interface Point {
  atMs: number;
  value: number;
}

/** Measures further apart than this are not joined: nobody spoke in between. */
export const LINE_GAP_MS = 15_000;

/** What was measured of somebody's speech from `fromMs` on, in stretches without a gap. */
export function stretches(
  history: readonly Moment[],
  participantId: string,
  measure: 'pitchHz' | 'syllablesPerS',
  fromMs: number,
): Point[][] {
  const found: Point[][] = [];
  let lastMs = -Infinity;
  for (const moment of history) {
    if (moment.kind !== 'prosody' || moment.participant_id !== participantId || moment.atMs < fromMs) continue;
    const value = moment[measure];
    if (value === null) continue;
    if (moment.atMs - lastMs > LINE_GAP_MS) found.push([]);
    found.at(-1)?.push({ atMs: moment.atMs, value });
    lastMs = moment.atMs;
  }
  return found;
}
