// The page as one immutable value: the meeting, the person's devices, and what is open. Pure.

import { NO_MEDIA, OUTSIDE, reduceMeeting, type LocalState, type MeetingAction, type MeetingState } from '../client';
import type { Language } from './strings';

/** `GET /api/v1/config`. */
export interface ServerConfig {
  open_rooms: boolean;
  demo_room: string | null;
  /** Where the same page is served over https, or what to do; null if there is no such place. */
  secure_hint: string | null;
  version: string;
}

export type Panel = 'captions' | 'chat' | 'people' | 'processors';
export type Dialog =
  | { kind: 'settings' }
  | { kind: 'shortcuts' }
  | { kind: 'remove'; participantId: string; name: string }
  | { kind: 'end' }
  | { kind: 'details'; participantId: string };

export interface Notice {
  id: number;
  text: string;
  tone: 'info' | 'warning';
  /** Until it is dismissed or the meeting ends; the others go by themselves. */
  stays: boolean;
}

export interface AppState {
  meeting: MeetingState;
  local: LocalState;
  config: ServerConfig | null;
  language: Language;
  name: string;
  room: string;
  panel: Panel | null;
  dialog: Dialog | null;
  captionsOnTiles: boolean;
  /** Whether single keys do something. */
  shortcutsOn: boolean;
  unread: number;
  soundBlocked: boolean;
  /** Set while a page refresh brings the person back, so that the lobby is not shown in between. */
  comingBack: boolean;
  notices: Notice[];
}

export type AppAction =
  | MeetingAction
  | { type: 'local'; local: LocalState }
  | { type: 'config'; config: ServerConfig }
  | { type: 'language'; language: Language }
  | { type: 'name'; name: string }
  | { type: 'room'; room: string }
  | { type: 'panel'; panel: Panel | null }
  | { type: 'dialog'; dialog: Dialog | null }
  | { type: 'captions_on_tiles'; on: boolean }
  | { type: 'shortcuts'; on: boolean }
  | { type: 'sound_blocked'; blocked: boolean }
  | { type: 'coming_back' }
  | { type: 'to_start' }
  | { type: 'notice'; notice: Notice }
  | { type: 'notice_over'; id: number };

const MAX_NOTICES = 4;

export function initialState(language: Language, name: string, room: string, shortcutsOn = true): AppState {
  return {
    meeting: OUTSIDE,
    local: NO_MEDIA,
    config: null,
    language,
    name,
    room,
    panel: null,
    dialog: null,
    captionsOnTiles: true,
    shortcutsOn,
    unread: 0,
    soundBlocked: false,
    comingBack: false,
    notices: [],
  };
}

export function reduceApp(state: AppState, action: AppAction): AppState {
  switch (action.type) {
    case 'local':
      return { ...state, local: action.local };
    case 'config':
      return { ...state, config: action.config };
    case 'language':
      return { ...state, language: action.language };
    case 'name':
      return { ...state, name: action.name };
    case 'room':
      return { ...state, room: action.room };
    case 'panel':
      return { ...state, panel: action.panel, unread: action.panel === 'chat' ? 0 : state.unread };
    case 'dialog':
      return { ...state, dialog: action.dialog };
    case 'captions_on_tiles':
      return { ...state, captionsOnTiles: action.on };
    case 'shortcuts':
      return { ...state, shortcutsOn: action.on };
    case 'sound_blocked':
      return { ...state, soundBlocked: action.blocked };
    case 'coming_back':
      return { ...state, comingBack: true };
    case 'to_start':
      return { ...state, meeting: OUTSIDE, panel: null, dialog: null, comingBack: false };
    case 'notice':
      return { ...state, notices: withNotice(state.notices, action.notice) };
    case 'notice_over':
      return { ...state, notices: state.notices.filter((notice) => notice.id !== action.id) };
    default:
      return reduceAround(state, action);
  }
}

/** Said again, it is said once; of too many, the oldest that would have gone by itself makes room. */
function withNotice(notices: Notice[], notice: Notice): Notice[] {
  const all = [...notices.filter(({ text }) => text !== notice.text), notice];
  if (all.length <= MAX_NOTICES) return all;
  const leaves = Math.max(0, all.findIndex(({ stays }) => !stays));
  return all.filter((_, index) => index !== leaves);
}

const passing = (notices: Notice[]) => notices.filter(({ stays }) => !stays);

/** What happens in the meeting, and what that does to the page around it. */
function reduceAround(state: AppState, action: MeetingAction): AppState {
  const next = { ...state, meeting: reduceMeeting(state.meeting, action) };
  switch (action.type) {
    case 'joined':
      return { ...next, comingBack: false, unread: 0 };
    case 'join_refused':
      return { ...next, comingBack: false };
    case 'closed':
      return { ...next, comingBack: false, panel: null, dialog: null, soundBlocked: false, notices: passing(state.notices) };
    case 'chat': {
      const seen = state.panel === 'chat' || action.line.participant_id === state.meeting.selfId;
      return { ...next, unread: seen ? state.unread : state.unread + 1 };
    }
    default:
      return next;
  }
}
