// Who has spoken for how long since this page came into the meeting, from what the server says of active speakers. Pure.

export interface Speech {
  /** Who speaks now. */
  talking: readonly string[];
  /** Since when they do (`performance.now()`), or until when their time is counted. */
  sinceMs: number;
  /** How long each has spoken, by participant id; only of those who are here. */
  spokenMs: Readonly<Record<string, number>>;
  /** How long all those have spoken who have left. */
  goneMs: number;
}

export const SILENCE: Speech = { talking: [], sinceMs: 0, spokenMs: {}, goneMs: 0 };

/** From `nowMs` on these speak, and nobody else. */
export function nowTalking(speech: Speech, talking: readonly string[], nowMs: number): Speech {
  return { ...speech, spokenMs: counted(speech, nowMs), talking, sinceMs: nowMs };
}

/** Somebody has left: the others' shares stay what they were. */
export function hasLeft(speech: Speech, participantId: string): Speech {
  const { [participantId]: goneMs = 0, ...spokenMs } = speech.spokenMs;
  const talking = speech.talking.filter((id) => id !== participantId);
  return { ...speech, talking, spokenMs, goneMs: speech.goneMs + goneMs };
}

/** How long somebody has spoken until `nowMs`, and their share of all the speaking: null as long as there was none. */
export function shareOf(speech: Speech, participantId: string, nowMs: number): { spokenMs: number; share: number | null } {
  const all = counted(speech, nowMs);
  const wholeMs = Object.values(all).reduce((sum, ms) => sum + ms, speech.goneMs);
  const spokenMs = all[participantId] ?? 0;
  return { spokenMs, share: wholeMs > 0 ? spokenMs / wholeMs : null };
}

function counted(speech: Speech, nowMs: number): Record<string, number> {
  const all = { ...speech.spokenMs };
  const lastedMs = Math.max(0, nowMs - speech.sinceMs);
  for (const id of speech.talking) all[id] = (all[id] ?? 0) + lastedMs;
  return all;
}
