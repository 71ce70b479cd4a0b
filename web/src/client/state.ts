// The meeting as one immutable value, and how each thing that happens changes it. Pure.

import { applyCaption, type CaptionLine } from './captions';
import { remember, type Guess, type Moment } from './history';
import type {
  ChatLine,
  CloseReason,
  EyeDirection,
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
  TrackInfo,
  VoiceAuthenticity,
} from './protocol';
import type { FailureCode } from './signaling';
import { hasLeft, nowTalking, SILENCE, type Speech } from './speech';

export type Finding = FindingEvent['finding'];
export type Source = TrackInfo['source'];

/** `reconnecting`: inside, but the signaling connection is lost. `closed`: was inside, is no longer. */
export type Phase = 'outside' | 'joining' | 'inside' | 'reconnecting' | 'closed';

/** `blocked`: ICE never came up, which almost always means a network without UDP. `lost`: it was up, and is being restarted. */
export type MediaPath = 'idle' | 'connecting' | 'connected' | 'lost' | 'blocked';

/** Why a meeting is over. After the other reasons of the protocol the same session comes back. */
export type FinalReason = Exclude<CloseReason, 'connection_lost' | 'server_shutdown' | 'moved'>;

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
  /** Who has spoken for how long since we came. */
  speech: Speech;
  captions: CaptionLine[];
  /** The newest prosody finding by participant id. */
  prosody: Record<string, Prosody>;
  /** The newest evidence about voices by participant id: one's own, and for hosts everybody's who allowed it. */
  voices: Record<string, VoiceAuthenticity>;
  /** The newest evidence about faces, likewise, by participant id and face id. */
  faces: Record<string, Record<string, FaceAuthenticity>>;
  /** Who was in one's own picture last. */
  seen: Faces | null;
  /** Where one's own eyes looked last, and when that came. */
  eyes: { found: EyeDirection; atMs: number } | null;
  /** What was last guessed of one's own face, voice or words, and when that came. */
  guesses: Partial<Record<Guess['kind'], { found: Guess; atMs: number }>>;
  /** What was measured and guessed of oneself in the last minutes, oldest first. */
  history: Moment[];
  /** What is known of the errors of those guesses: said beside a timeline also while its processor is away for a moment. */
  guessErrors: Partial<Record<Guess['kind'], string>>;
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
  speech: SILENCE,
  captions: [],
  prosody: {},
  voices: {},
  faces: {},
  seen: null,
  eyes: null,
  guesses: {},
  history: [],
  guessErrors: {},
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
  | { type: 'connection_lost'; nowMs: number }
  | { type: 'closed'; reason: FinalReason }
  | { type: 'path'; path: MediaPath }
  | { type: 'media'; media: Record<string, MediaStreamTrack> }
  | { type: 'participant_joined'; participant: ParticipantInfo }
  | { type: 'participant_left'; participantId: string; nowMs: number }
  | { type: 'track_published'; track: TrackInfo }
  | { type: 'track_unpublished'; trackId: string }
  | { type: 'track_muted'; trackId: string; muted: boolean }
  | { type: 'speakers'; speakers: Speaker[]; nowMs: number }
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
      return state.phase === 'inside' ? { ...nowSpeaking(state, [], action.nowMs), phase: 'reconnecting' } : state;
    case 'closed':
      return close(state, action.reason);
    case 'path':
      return { ...state, path: action.path };
    case 'media':
      return { ...state, media: action.media };
    case 'participant_joined':
      return welcome(state, action.participant);
    case 'participant_left':
      return leave(state, action.participantId, action.nowMs);
    case 'track_published':
      return { ...state, participants: upsertTrack(state.participants, action.track) };
    case 'track_unpublished':
      return { ...state, participants: mapTracks(state.participants, (t) => (t.track_id === action.trackId ? null : t)) };
    case 'track_muted':
      return { ...state, participants: muteTrack(state.participants, action.trackId, action.muted) };
    case 'speakers':
      return nowSpeaking(state, action.speakers, action.nowMs);
    case 'finding':
      return applyFinding(state, action.finding, action.nowMs);
    case 'chat':
      return { ...state, chat: [...state.chat, action.line].slice(-MAX_CHAT_LINES) };
    case 'processors':
      return forgetOff({ ...state, processors: action.processors, processorStatus: action.status });
    case 'chose':
      return choose(state, action.processor, action.on);
    case 'room_changed':
      return changeRoom(state, action.locked, new Set(action.hosts));
    case 'quality':
      return applyQuality(state, action.participantId, action.score, action.layers);
  }
}

/** What was found does not outlast the meeting, apart from captions: they can be read and saved afterwards. */
function close(state: MeetingState, reason: FinalReason): MeetingState {
  const nothing = () => false;
  const ended = keep(state, nothing, nothing);
  return { ...ended, faces: {}, phase: 'closed', closeReason: reason, media: {}, path: 'idle', speakers: [] };
}

/** A resume keeps what the snapshot does not carry: captions, received media, and what was found and is still allowed. */
function enter(state: MeetingState, result: JoinResult): MeetingState {
  const kept = result.resumed ? state : { ...OUTSIDE, captions: state.captions, names: state.names };
  return forgetOff({
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
  });
}

function welcome(state: MeetingState, participant: ParticipantInfo): MeetingState {
  const id = participant.participant_id;
  const known = state.participants.findIndex((p) => p.participant_id === id);
  const participants = known < 0 ? [...state.participants, participant] : state.participants.with(known, participant);
  return { ...state, participants, names: withNames(state.names, [participant], participants) };
}

function leave(state: MeetingState, participantId: string, nowMs: number): MeetingState {
  const participants = state.participants.filter((p) => p.participant_id !== participantId);
  return { ...state, participants, speech: hasLeft(state.speech, participantId, nowMs) };
}

function nowSpeaking(state: MeetingState, speakers: Speaker[], nowMs: number): MeetingState {
  const talking = speakers.map((speaker) => speaker.participant_id);
  return { ...state, speakers, speech: nowTalking(state.speech, talking, nowMs) };
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
      return {
        ...state,
        prosody: { ...state.prosody, [finding.participant_id]: finding },
        history: remember(state.history, finding, nowMs),
      };
    case 'faces':
      return { ...state, seen: finding };
    case 'eye_direction':
      return { ...state, eyes: { found: finding, atMs: nowMs } };
    case 'expression':
    case 'voice_emotion':
    case 'text_emotion':
      return {
        ...state,
        guesses: { ...state.guesses, [finding.kind]: { found: finding, atMs: nowMs } },
        history: remember(state.history, finding, nowMs),
        guessErrors: { ...state.guessErrors, [finding.kind]: finding.known_errors },
      };
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

interface Found {
  kind: string;
  participant_id: string;
  track_id: string;
}

/**
 * What a processor found goes as soon as it is no longer on: it would come back with the next consent. Timelines stay while it is
 * only away for a moment, as when its host restarts, and go once it is off.
 */
function forgetOff(state: MeetingState): MeetingState {
  const states = new Map(state.processorStatus.map((one) => [`${one.processor}/${one.track_id}`, one.state]));
  const stateOf = (found: Found) => states.get(`${found.kind}/${found.track_id}`) ?? 'off';
  return keep(
    state,
    (found) => stateOf(found) === 'on',
    (moment) => stateOf(moment) !== 'off',
  );
}

/** What somebody switches off for themselves goes at once, timelines included, whatever the server says later. */
function choose(state: MeetingState, processor: string, on: boolean): MeetingState {
  const next = { ...state, choices: { ...state.choices, [processor]: on } };
  const stands = (found: Found) => found.kind !== processor || found.participant_id !== state.selfId;
  return on ? next : keep(next, stands, stands);
}

function keep(state: MeetingState, stands: (found: Found) => boolean, past: (moment: Moment) => boolean): MeetingState {
  const kept = <F extends Found>(all: Record<string, F>) =>
    Object.fromEntries(Object.entries(all).filter(([, found]) => stands(found)));
  return {
    ...state,
    prosody: kept(state.prosody),
    voices: kept(state.voices),
    faces: Object.fromEntries(Object.entries(state.faces).map(([id, faces]) => [id, kept(faces)])),
    seen: state.seen !== null && stands(state.seen) ? state.seen : null,
    eyes: state.eyes !== null && stands(state.eyes.found) ? state.eyes : null,
    guesses: Object.fromEntries(Object.entries(state.guesses).filter(([, guess]) => stands(guess.found))),
    history: state.history.filter(past),
  };
}

function applyQuality(state: MeetingState, participantId: string, score: number, layers: Layer[]): MeetingState {
  const quality = { ...state.quality, [participantId]: score };
  return { ...state, quality, layers: participantId === state.selfId ? layers : state.layers };
}

export function trackOf(participant: ParticipantInfo | undefined, source: Source): TrackInfo | undefined {
  return participant?.tracks.find((track) => track.source === source);
}
