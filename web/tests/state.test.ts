import { describe, expect, test } from 'vitest';
import { initialState, reduceApp, type AppAction } from '../src/ui/app_state';
import { isWanted, myStatus, othersStatus } from '../src/ui/processing';
import { MAX_NAMES, OUTSIDE, reduceMeeting, trackOf, type MeetingAction, type MeetingState } from '../src/client/state';
import type { JoinResult, ParticipantInfo, ProcessorInfo, TrackInfo } from '../src/client';
import { Store } from '../src/client/store';
import { caption } from './samples';

const track = (change: Partial<TrackInfo> = {}): TrackInfo => ({
  track_id: 'ada-mic',
  participant_id: 'ada',
  kind: 'audio',
  source: 'microphone',
  muted: false,
  ...change,
});

const person = (id: string, tracks: TrackInfo[] = []): ParticipantInfo => ({
  participant_id: id,
  name: id.toUpperCase(),
  host: false,
  bot: false,
  joined_at: '2026-01-01T00:00:00Z',
  tracks,
});

const result = (change: Partial<JoinResult> = {}): JoinResult => ({
  participant_id: 'me',
  host: false,
  resumed: false,
  session_key: 'key',
  ice_servers: [],
  protocol_version: 1,
  invite_url: 'https://example.org/r/room',
  nodes: [],
  room: {
    room_id: 'room',
    locked: false,
    participants: [person('me'), person('ada', [track()])],
    processors: [],
    processor_status: [],
    chat: [],
  },
  ...change,
});

const play = (...actions: MeetingAction[]): MeetingState => actions.reduce(reduceMeeting, OUTSIDE);
const inside: MeetingAction[] = [{ type: 'joining', roomId: 'room' }, { type: 'joined', result: result() }];
const ada = (state: MeetingState) => state.participants.find((p) => p.participant_id === 'ada');

describe('the meeting', () => {
  test('joining and being refused leads back outside, with the reason', () => {
    const state = play({ type: 'joining', roomId: 'room' }, { type: 'join_refused', code: 'room_full' });
    expect(state).toMatchObject({ phase: 'outside', refusal: 'room_full', roomId: 'room' });
  });

  test('tracks come, are muted, are replaced and go', () => {
    const muted = play(...inside, { type: 'track_muted', trackId: 'ada-mic', muted: true });
    expect(trackOf(ada(muted), 'microphone')?.muted).toBe(true);
    const again = reduceMeeting(muted, { type: 'track_published', track: track() });
    expect(ada(again)?.tracks).toEqual([track()]);
    expect(ada(reduceMeeting(again, { type: 'track_unpublished', trackId: 'ada-mic' }))?.tracks).toEqual([]);
  });

  test('who left keeps the name on what they said', () => {
    const state = play(...inside, { type: 'participant_left', participantId: 'ada', nowMs: 0 });
    expect(ada(state)).toBeUndefined();
    expect(state.names['ada']).toBe('ADA');
  });

  test('of too many names the oldest are forgotten, but never of who is here', () => {
    const passers = Array.from({ length: MAX_NAMES }, (_, index) => `p${index}`);
    const walk = passers.flatMap((id): MeetingAction[] => [
      { type: 'participant_joined', participant: person(id) },
      { type: 'participant_left', participantId: id, nowMs: 0 },
    ]);
    const { names } = play(...inside, ...walk);
    expect(Object.keys(names).length).toBe(MAX_NAMES);
    expect([names['me'], names['ada'], names['p0'], names['p1'], names['p2']]).toEqual(['ME', 'ADA', undefined, undefined, 'P2']);
  });

  test('a new host is one everywhere', () => {
    const state = play(...inside, { type: 'room_changed', locked: true, hosts: ['me'] });
    expect([state.locked, state.isHost, state.participants.map((p) => p.host)]).toEqual([true, true, [true, false]]);
    const handed = reduceMeeting(state, { type: 'room_changed', locked: false, hosts: ['ada'] });
    expect([handed.locked, handed.isHost, handed.participants.map((p) => p.host)]).toEqual([false, false, [false, true]]);
  });

  test('a resume keeps captions and media, a new session only the captions', () => {
    const media = { 'ada-mic': {} as MediaStreamTrack };
    const finding = caption({ text: 'hello' });
    const before = play(...inside, { type: 'media', media }, { type: 'finding', finding, nowMs: 1 }, { type: 'connection_lost', nowMs: 2 });
    expect(before.phase).toBe('reconnecting');
    const resumed = reduceMeeting(before, { type: 'joined', result: result({ resumed: true }) });
    expect([resumed.phase, resumed.captions.length, resumed.media]).toEqual(['inside', 1, media]);
    const anew = reduceMeeting(before, { type: 'joined', result: result() });
    expect([anew.phase, anew.captions.length, anew.media]).toEqual(['inside', 1, {}]);
  });

  test('a finding of an unknown kind changes nothing', () => {
    const before = play(...inside);
    const finding = { ...caption({}), kind: 'head_pose' } as unknown as ReturnType<typeof caption>;
    expect(reduceMeeting(before, { type: 'finding', finding, nowMs: 0 })).toBe(before);
  });

  test('layers are only taken from the report about oneself', () => {
    const layers = [{ track_id: 't', layer: 'low', reason: 'bandwidth' }] as const;
    const other = play(...inside, { type: 'quality', participantId: 'ada', score: 1, layers: [...layers] });
    expect([other.quality, other.layers]).toEqual([{ ada: 1 }, []]);
    const own = play(...inside, { type: 'quality', participantId: 'me', score: 2, layers: [...layers] });
    expect(own.layers).toEqual(layers);
  });

  test('after the end nothing is received any more, and the reason is kept', () => {
    const state = play(...inside, { type: 'closed', reason: 'removed' });
    expect(state).toMatchObject({ phase: 'closed', closeReason: 'removed', media: {}, path: 'idle' });
  });
});

describe('the page', () => {
  const line = { participant_id: 'ada', name: 'ADA', text: 'hi', sent_at: '2026-01-01T00:00:00Z' };
  const start = [...inside].reduce(reduceApp, initialState('en', 'Me', 'room'));
  const after = (...actions: AppAction[]) => actions.reduce(reduceApp, start);

  test('chat is unread until it is opened; own lines never are', () => {
    expect(after({ type: 'chat', line }).unread).toBe(1);
    expect(after({ type: 'chat', line: { ...line, participant_id: 'me' } }).unread).toBe(0);
    expect(after({ type: 'chat', line }, { type: 'panel', panel: 'chat' }).unread).toBe(0);
    expect(after({ type: 'panel', panel: 'chat' }, { type: 'chat', line }).unread).toBe(0);
  });

  test('panels and dialogs do not outlive the meeting', () => {
    const ended = after({ type: 'panel', panel: 'people' }, { type: 'dialog', dialog: { kind: 'end' } }, { type: 'closed', reason: 'room_ended' });
    expect([ended.panel, ended.dialog]).toEqual([null, null]);
  });

  test('what must not be overlooked outlives other notices, and ends with the meeting', () => {
    const notice = (id: number, stays = false): AppAction => ({ type: 'notice', notice: { id, text: `${id}`, tone: 'info', stays } });
    const many = after(notice(0, true), ...[1, 2, 3, 4, 5].map((id) => notice(id)));
    expect(many.notices.map(({ id }) => id)).toEqual([0, 3, 4, 5]);
    expect(reduceApp(many, { type: 'closed', reason: 'left' }).notices.map(({ id }) => id)).toEqual([3, 4, 5]);
    const again = reduceApp(many, { type: 'notice', notice: { id: 9, text: '4', tone: 'info', stays: false } });
    expect(again.notices.map(({ id }) => id)).toEqual([0, 3, 5, 9]);
  });

  test('a reader of the store hears about changes, and not about what changes nothing', () => {
    const store = new Store(reduceApp, start);
    let heard = 0;
    const stop = store.subscribe(() => heard++);
    store.dispatch({ type: 'name', name: 'Mira' });
    const finding = { ...caption({}), kind: 'unknown' } as unknown as ReturnType<typeof caption>;
    stop();
    store.dispatch({ type: 'finding', finding, nowMs: 0 });
    store.dispatch({ type: 'name', name: 'Noor' });
    expect(heard).toBe(1);
  });
});

test('a processor has a status on my track and on those of others', () => {
  const denoise = { name: 'denoise' } as ProcessorInfo;
  const status = [
    { track_id: 'ada-mic', processor: 'denoise', state: 'guard', reason: '' },
    { track_id: 'my-mic', processor: 'denoise', state: 'on', reason: '' },
    { track_id: 'my-mic', processor: 'captions', state: 'off', reason: '' },
    { track_id: 'gone', processor: 'denoise', state: 'on', reason: '' },
  ] as const;
  const own = track({ track_id: 'my-mic', participant_id: 'me' });
  const state = play(...inside, { type: 'processors', processors: [denoise], status: [...status] });
  expect(myStatus(state, denoise)).toBeNull();
  const published = reduceMeeting(state, { type: 'track_published', track: own });
  expect(myStatus(published, denoise)?.state).toBe('on');
  expect(othersStatus(published, denoise)).toEqual([{ name: 'ADA', status: status[0] }]);
});

test('a processor is wanted as it was chosen, also while it has no track or is away', () => {
  const captions = { name: 'captions', default_on: true, about: 'content', locked: null, locked_by: '' } as ProcessorInfo;
  const status = (state: 'on' | 'off' | 'unavailable' | 'bypass'): MeetingAction => {
    const mine = { track_id: 'my-mic', processor: 'captions', state, reason: '' };
    return { type: 'processors', processors: [captions], status: [mine] };
  };
  const no: MeetingAction = { type: 'chose', processor: 'captions', on: false };
  const silent = play(...inside);
  expect([isWanted(silent, captions), isWanted(reduceMeeting(silent, no), captions)]).toEqual([true, false]);
  const own: MeetingAction = { type: 'track_published', track: track({ track_id: 'my-mic', participant_id: 'me' }) };
  const wanted = (...actions: MeetingAction[]) => isWanted(play(...inside, own, ...actions), captions);
  expect([wanted(status('unavailable')), wanted(no, status('unavailable'))]).toEqual([true, false]);
  expect([wanted(status('bypass')), wanted(status('off')), wanted(no, status('on'))]).toEqual([true, false, true]);
  const locked = (on: 'on' | 'off') => isWanted(reduceMeeting(silent, no), { ...captions, locked: on, locked_by: 'server' });
  expect([locked('on'), locked('off')]).toEqual([true, false]);
});
