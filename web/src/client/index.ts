// The browser SDK: everything that a page (ours or another) needs to hold a meeting. No DOM is built here.

export { latestLine, type CaptionLine } from './captions';
export { MeetingClient, type Identity, type MeetingEvents } from './client';
export {
  bands,
  GUESS_STAYS_MS,
  HISTORY_MS,
  shares,
  stretches,
  type Band,
  type Guess,
  type Moment,
  type Point,
} from './history';
export { LevelMeter } from './level';
export { LocalMedia, NO_MEDIA, type Device, type DeviceProblem, type DeviceState, type LocalState } from './media';
export type * from './protocol';
export {
  clearSession,
  loadSession,
  ROOM_PATTERN,
  roomOfPath,
  saveSession,
  takeInvite,
  tokenOf,
  type Session,
} from './session';
export { RequestError, type FailureCode } from './signaling';
export {
  OUTSIDE,
  reduceMeeting,
  trackOf,
  type FinalReason,
  type MediaPath,
  type MeetingAction,
  type MeetingState,
  type Phase,
  type Source,
} from './state';
export { shareOf } from './speech';
export { Store } from './store';
