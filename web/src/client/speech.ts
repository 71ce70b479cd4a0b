// Who has spoken for how long since this page came into the meeting, from what the server says of active speakers. Pure.

export interface Speech {
  /** Who speaks now. */
  talking: readonly string[];
  /** Since when they do (`performance.now()`), or until when their time is counted. */
  sinceMs: number;
  /** How long each has spoken, by participant id. */
  spokenMs: Readonly<Record<string, number>>;
  /** Who has left and is still in `spokenMs`, in the order in which they left. */
  left: readonly string[];
  /** How long all those have spoken who left before them. */
  goneMs: number;
}

export const SILENCE: Speech = { talking: [], sinceMs: 0, spokenMs: {}, left: [], goneMs: 0 };

/** Of more people who left, the first ones' time is only known together. */
export const MAX_LEFT = 200;

/** From `nowMs` on these speak, and nobody else. */
export function nowTalking(speech: Speech, talking: readonly string[], nowMs: number): Speech {
  return { ...speech, spokenMs: counted(speech, nowMs), talking, sinceMs: nowMs };
}

/** Somebody has left, perhaps while talking: everybody's shares stay what they were. */
export function hasLeft(speech: Speech, participantId: string, nowMs: number): Speech {
  const talking = speech.talking.filter((id) => id !== participantId);
  const spokenMs = counted(speech, nowMs);
  const left = [...speech.left, participantId];
  if (left.length <= MAX_LEFT) return { ...speech, talking, sinceMs: nowMs, spokenMs, left };
  const [first = '', ...others] = left;
  const { [first]: goneMs = 0, ...kept } = spokenMs;
  return { talking, sinceMs: nowMs, spokenMs: kept, left: others, goneMs: speech.goneMs + goneMs };
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
