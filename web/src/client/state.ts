// The meeting as one immutable value, and how each thing that happens changes it. Pure.

import { applyCaption, type CaptionLine } from './captions';
import type {
  ChatLine,
  CloseReason,
  Expression,
  FaceAuthenticity,
  Faces,
  FindingEvent,
  JoinResult,
  Layer,
  ParticipantInfo,
  ProcessorInfo,
  ProcessorStatus,
  Prosody,
  Speaker,
  TextEmotion,
  TrackInfo,
  VoiceAuthenticity,
  VoiceEmotion,
} from './protocol';
import type { FailureCode } from './signaling';

export type Finding = FindingEvent['finding'];
/** One word of a few for what a face shows, a voice sounds like or words say. */
export type Guess = Expression | TextEmotion | VoiceEmotion;
export type Source = TrackInfo['source'];

/** `reconnecting`: inside, but the signaling connection is lost. `closed`: was inside, is no longer. */
export type Phase = 'outside' | 'joining' | 'inside' | 'reconnecting' | 'closed';

/** `blocked`: ICE never came up, which almost always means a network without UDP. `lost`: it was up, and is being restarted. */
export type MediaPath = 'idle' | 'connecting' | 'connected' | 'lost' | 'blocked';

/** Why a meeting is over. After the other two reasons of the protocol the same session comes back. */
export type FinalReason = Exclude<CloseReason, 'connection_lost' | 'server_shutdown'>;

export const MAX_CHAT_LINES = 200;
export const MAX_NAMES = 1000;

export interface MeetingState {
  phase: Phase;
  /** Why the last attempt to join failed. */
  refusal: FailureCode | null;
  closeReason: FinalReason | null;
  roomId: string;
  selfId: string;
  isHost: boolean;
  inviteUrl: string;
  locked: boolean;
  participants: ParticipantInfo[];
  /** Of everybody who was seen here, by participant id: who left keeps the name on what they said. The newest 1000. */
  names: Record<string, string>;
  /** Received media by track id. */
  media: Record<string, MediaStreamTrack>;
  path: MediaPath;
  speakers: Speaker[];
  captions: CaptionLine[];
  /** The newest prosody finding by participant id. */
  prosody: Record<string, Prosody>;
  /** The newest evidence about voices by participant id: one's own, and for hosts everybody's who allowed it. */
  voices: Record<string, VoiceAuthenticity>;
  /** The newest evidence about faces, likewise, by participant id and face id. */
  faces: Record<string, Record<string, FaceAuthenticity>>;
  /** Who was in one's own picture last. */
  seen: Faces | null;
  /** What was last guessed of one's own face, voice or words, and when that came. */
  guesses: Partial<Record<Guess['kind'], { found: Guess; atMs: number }>>;
  chat: ChatLine[];
  processors: ProcessorInfo[];
  processorStatus: ProcessorStatus[];
  /** What the person has chosen for their own tracks, by processor; the server's default holds for the others. */
  choices: Record<string, boolean>;
  /** 0 (lost) to 3 (good) by participant id. */
  quality: Record<string, number>;
  layers: Layer[];
}

export const OUTSIDE: MeetingState = {
  phase: 'outside',
  refusal: null,
  closeReason: null,
  roomId: '',
  selfId: '',
  isHost: false,
  inviteUrl: '',
  locked: false,
  participants: [],
  names: {},
  media: {},
  path: 'idle',
  speakers: [],
  captions: [],
  prosody: {},
  voices: {},
  faces: {},
  seen: null,
  guesses: {},
  chat: [],
  processors: [],
  processorStatus: [],
  choices: {},
  quality: {},
  layers: [],
};

export type MeetingAction =
  | { type: 'joining'; roomId: string }
  | { type: 'join_refused'; code: FailureCode }
  | { type: 'joined'; result: JoinResult }
  | { type: 'connection_lost' }
  | { type: 'closed'; reason: FinalReason }
  | { type: 'path'; path: MediaPath }
  | { type: 'media'; media: Record<string, MediaStreamTrack> }
  | { type: 'participant_joined'; participant: ParticipantInfo }
  | { type: 'participant_left'; participantId: string }
  | { type: 'track_published'; track: TrackInfo }
  | { type: 'track_unpublished'; trackId: string }
  | { type: 'track_muted'; trackId: string; muted: boolean }
  | { type: 'speakers'; speakers: Speaker[] }
  | { type: 'finding'; finding: Finding; nowMs: number }
  | { type: 'chat'; line: ChatLine }
  | { type: 'processors'; processors: ProcessorInfo[]; status: ProcessorStatus[] }
  | { type: 'chose'; processor: string; on: boolean }
  | { type: 'room_changed'; locked: boolean; hosts: string[] }
  | { type: 'quality'; participantId: string; score: number; layers: Layer[] };

export function reduceMeeting(state: MeetingState, action: MeetingAction): MeetingState {
  switch (action.type) {
    case 'joining':
      return { ...OUTSIDE, phase: 'joining', roomId: action.roomId };
    case 'join_refused':
      return { ...OUTSIDE, roomId: state.roomId, refusal: action.code };
    case 'joined':
      return enter(state, action.result);
    case 'connection_lost':
      return state.phase === 'inside' ? { ...state, phase: 'reconnecting', speakers: [] } : state;
    case 'closed':
      return { ...state, phase: 'closed', closeReason: action.reason, media: {}, path: 'idle', speakers: [] };
    case 'path':
      return { ...state, path: action.path };
    case 'media':
      return { ...state, media: action.media };
    case 'participant_joined':
      return welcome(state, action.participant);
    case 'participant_left':
      return { ...state, participants: state.participants.filter((p) => p.participant_id !== action.participantId) };
    case 'track_published':
      return { ...state, participants: upsertTrack(state.participants, action.track) };
    case 'track_unpublished':
      return { ...state, participants: mapTracks(state.participants, (t) => (t.track_id === action.trackId ? null : t)) };
    case 'track_muted':
      return { ...state, participants: muteTrack(state.participants, action.trackId, action.muted) };
    case 'speakers':
      return { ...state, speakers: action.speakers };
    case 'finding':
      return applyFinding(state, action.finding, action.nowMs);
    case 'chat':
      return { ...state, chat: [...state.chat, action.line].slice(-MAX_CHAT_LINES) };
    case 'processors':
      return forgetOff({ ...state, processors: action.processors, processorStatus: action.status });
    case 'chose':
      return { ...state, choices: { ...state.choices, [action.processor]: action.on } };
    case 'room_changed':
      return changeRoom(state, action.locked, new Set(action.hosts));
    case 'quality':
      return applyQuality(state, action.participantId, action.score, action.layers);
  }
}

/** A resume keeps what the snapshot does not carry: captions and received media. */
function enter(state: MeetingState, result: JoinResult): MeetingState {
  const kept = result.resumed ? state : { ...OUTSIDE, captions: state.captions, names: state.names };
  return {
    ...kept,
    phase: 'inside',
    refusal: null,
    closeReason: null,
    roomId: result.room.room_id,
    selfId: result.participant_id,
    isHost: result.host,
    inviteUrl: result.invite_url,
    locked: result.room.locked,
    participants: result.room.participants,
    names: withNames(kept.names, result.room.participants, result.room.participants),
    chat: result.room.chat,
    processors: result.room.processors,
    processorStatus: result.room.processor_status,
  };
}

function welcome(state: MeetingState, participant: ParticipantInfo): MeetingState {
  const id = participant.participant_id;
  const known = state.participants.findIndex((p) => p.participant_id === id);
  const participants = known < 0 ? [...state.participants, participant] : state.participants.with(known, participant);
  return { ...state, participants, names: withNames(state.names, [participant], participants) };
}

/** The oldest names of people who are gone make room. */
function withNames(names: Record<string, string>, seen: ParticipantInfo[], present: ParticipantInfo[]): Record<string, string> {
  const all = { ...names, ...Object.fromEntries(seen.map((p) => [p.participant_id, p.name])) };
  const excess = Object.keys(all).length - MAX_NAMES;
  if (excess <= 0) return all;
  const here = new Set(present.map((p) => p.participant_id));
  const gone = Object.keys(all).filter((id) => !here.has(id));
  for (const id of gone.slice(0, excess)) delete all[id];
  return all;
}

function changeRoom(state: MeetingState, locked: boolean, hosts: ReadonlySet<string>): MeetingState {
  const participants = state.participants.map((p) => ({ ...p, host: hosts.has(p.participant_id) }));
  return { ...state, locked, participants, isHost: hosts.has(state.selfId) };
}

function upsertTrack(all: ParticipantInfo[], track: TrackInfo): ParticipantInfo[] {
  return all.map((participant) => {
    if (participant.participant_id !== track.participant_id) return participant;
    const others = participant.tracks.filter((t) => t.track_id !== track.track_id);
    return { ...participant, tracks: [...others, track] };
  });
}

function mapTracks(all: ParticipantInfo[], change: (track: TrackInfo) => TrackInfo | null): ParticipantInfo[] {
  return all.map((participant) => {
    const tracks = participant.tracks.map(change).filter((track) => track !== null);
    return { ...participant, tracks };
  });
}

function muteTrack(all: ParticipantInfo[], trackId: string, muted: boolean): ParticipantInfo[] {
  return mapTracks(all, (track) => (track.track_id === trackId ? { ...track, muted } : track));
}

/** Kinds that this client does not know (a newer server's) are ignored. */
function applyFinding(state: MeetingState, finding: Finding, nowMs: number): MeetingState {
  switch (finding.kind) {
    case 'caption':
      return { ...state, captions: applyCaption(state.captions, finding, nowMs) };
    case 'prosody':
      return { ...state, prosody: { ...state.prosody, [finding.participant_id]: finding } };
    case 'faces':
      return { ...state, seen: finding };
    case 'expression':
    case 'voice_emotion':
    case 'text_emotion':
      return { ...state, guesses: { ...state.guesses, [finding.kind]: { found: finding, atMs: nowMs } } };
    case 'face_authenticity':
      return { ...state, faces: { ...state.faces, [finding.participant_id]: applyFace(state.faces[finding.participant_id] ?? {}, finding) } };
    case 'voice_authenticity':
      return { ...state, voices: { ...state.voices, [finding.participant_id]: finding } };
    default:
      return state;
  }
}

/** A face that has left the picture takes what was said of it along. */
function applyFace(faces: Record<string, FaceAuthenticity>, finding: FaceAuthenticity): Record<string, FaceAuthenticity> {
  const { [finding.face_id]: _, ...others } = faces;
  return finding.reason === 'gone' ? others : { ...others, [finding.face_id]: finding };
}

/** What a processor found goes as soon as it is no longer on: it would come back with the next consent. */
function forgetOff(state: MeetingState): MeetingState {
  const on = new Set(
    state.processorStatus.filter((one) => one.state === 'on').map((one) => `${one.processor}/${one.track_id}`),
  );
  const kept = <F extends { kind: string; track_id: string }>(all: Record<string, F>) =>
    Object.fromEntries(Object.entries(all).filter(([, found]) => on.has(`${found.kind}/${found.track_id}`)));
  const { seen } = state;
  return {
    ...state,
    prosody: kept(state.prosody),
    voices: kept(state.voices),
    faces: Object.fromEntries(Object.entries(state.faces).map(([id, faces]) => [id, kept(faces)])),
    seen: seen !== null && on.has(`faces/${seen.track_id}`) ? seen : null,
    guesses: Object.fromEntries(
      Object.entries(state.guesses).filter(([kind, guess]) => on.has(`${kind}/${guess.found.track_id}`)),
    ),
  };
}

function applyQuality(state: MeetingState, participantId: string, score: number, layers: Layer[]): MeetingState {
  const quality = { ...state.quality, [participantId]: score };
  return { ...state, quality, layers: participantId === state.selfId ? layers : state.layers };
}

export function trackOf(participant: ParticipantInfo | undefined, source: Source): TrackInfo | undefined {
  return participant?.tracks.find((track) => track.source === source);
}
