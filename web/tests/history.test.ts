import { describe, expect, test } from 'vitest';
import { OUTSIDE, reduceMeeting, type Expression, type MeetingAction, type MeetingState, type Prosody } from '../src/client';
import { bands, HISTORY_MS, LINE_GAP_MS, MAX_MOMENTS, remember, shares, stretches, type Moment } from '../src/client/history';

const ABOUT = { room_id: 'room', participant_id: 'me', track_id: 'me-mic', epoch: 0, start_ms: 0, end_ms: 900, model: 'test@1' };

function spoke(pitch_hz: number | null, change: Partial<Prosody> = {}): Prosody {
  return { ...ABOUT, kind: 'prosody', level_dbfs: -20, pitch_hz, syllables_per_s: 4, speech_ms: 900, ...change };
}

function showed(label: string, change: Partial<Expression> = {}): Expression {
  const guess = { face_id: 'face-1', label, probability: 0.9, probabilities: {}, known_errors: 'Often wrong.' };
  return { ...ABOUT, kind: 'expression', track_id: 'me-cam', ...guess, ...change };
}

function past(...all: [number, Prosody | Expression][]): Moment[] {
  return all.reduce((history: Moment[], [atMs, finding]) => remember(history, finding, atMs), []);
}

describe('what is remembered', () => {
  test('is bounded in time', () => {
    const history = past([0, spoke(100)], [1000, spoke(110)], [HISTORY_MS, spoke(120)]);
    expect(history.map(({ atMs }) => atMs)).toEqual([1000, HISTORY_MS]);
  });

  test('is bounded in number', () => {
    const flood = Array.from({ length: MAX_MOMENTS + 50 }, (_, index): [number, Prosody] => [index, spoke(index)]);
    const history = past(...flood);
    expect(history.length).toBe(MAX_MOMENTS);
    expect(history[0]?.atMs).toBe(50);
  });
});

describe('bands', () => {
  const of = (history: Moment[], fromMs = 0, toMs = 60_000) => bands(history, 'me', 'expression', fromMs, toMs);

  test('the same word again makes one band, another word ends it', () => {
    const history = past([0, showed('happy')], [1000, showed('happy')], [2000, showed('neutral')]);
    expect(of(history)).toEqual([
      { label: 'happy', fromMs: 0, toMs: 2000 },
      { label: 'neutral', fromMs: 2000, toMs: 6000 },
    ]);
  });

  test('a guess that is not repeated ends by itself', () => {
    expect(of(past([0, showed('happy')], [20_000, showed('happy')]))).toEqual([
      { label: 'happy', fromMs: 0, toMs: 4000 },
      { label: 'happy', fromMs: 20_000, toMs: 24_000 },
    ]);
  });

  test('only what lies in the window is shown, and nothing of others or of other kinds', () => {
    const others = showed('sad', { participant_id: 'ada' });
    const history = past([0, showed('happy')], [3000, others], [3500, spoke(100)]);
    expect(of(history, 1000, 3000)).toEqual([{ label: 'happy', fromMs: 1000, toMs: 3000 }]);
    expect(of(history, 5000, 9000)).toEqual([]);
  });

  test('shares are of the time for which something was guessed', () => {
    const history = past([0, showed('happy')], [3000, showed('neutral')], [10_000, showed('neutral')]);
    expect(shares(of(history))).toEqual([
      { label: 'neutral', share: 8 / 11 },
      { label: 'happy', share: 3 / 11 },
    ]);
    expect(shares([])).toEqual([]);
  });
});

test('measures are joined unless nobody spoke in between, and what could not be measured is left out', () => {
  const later = 2000 + LINE_GAP_MS + 1;
  const history = past([0, spoke(90)], [1000, spoke(100)], [1500, spoke(null)], [2000, spoke(110)], [later, spoke(120)]);
  expect(stretches(history, 'me', 'pitchHz', 500)).toEqual([
    [
      { atMs: 1000, value: 100 },
      { atMs: 2000, value: 110 },
    ],
    [{ atMs: later, value: 120 }],
  ]);
  expect(stretches(history, 'me', 'syllablesPerS', 0).flat().length).toBe(5);
  expect(stretches(history, 'ada', 'pitchHz', 0)).toEqual([]);
});

describe('consent', () => {
  const status = (processor: string, track_id: string, state: 'on' | 'off' | 'unavailable') => ({ processor, track_id, state, reason: '' });
  const play = (...actions: MeetingAction[]): MeetingState => actions.reduce(reduceMeeting, { ...OUTSIDE, selfId: 'me' });
  const found: MeetingAction[] = [
    { type: 'finding', finding: spoke(100), nowMs: 0 },
    { type: 'finding', finding: showed('happy'), nowMs: 0 },
  ];
  const kinds = (state: MeetingState) => state.history.map(({ kind }) => kind);

  test('what somebody switches off is gone at once, before the server says so', () => {
    const state = play(...found, { type: 'chose', processor: 'expression', on: false });
    expect(kinds(state)).toEqual(['prosody']);
    expect(state.guesses.expression).toBeUndefined();
    expect(state.prosody['me']?.pitch_hz).toBe(100);
    expect(kinds(play(...found, { type: 'chose', processor: 'expression', on: true }))).toEqual(['prosody', 'expression']);
  });

  test('what is off, or has lost its track, is gone; what is away for a moment keeps its past', () => {
    const away = [status('prosody', 'me-mic', 'on'), status('expression', 'me-cam', 'unavailable')];
    const state = play(...found, { type: 'processors', processors: [], status: away });
    expect(kinds(state)).toEqual(['prosody', 'expression']);
    expect(state.guesses.expression).toBeUndefined();
    expect(state.guessErrors.expression).toBe('Often wrong.');
    const off = reduceMeeting(state, { type: 'processors', processors: [], status: [status('prosody', 'me-mic', 'off')] });
    expect(kinds(off)).toEqual([]);
  });

  test('what was switched off elsewhere while the connection was lost does not come back with it', () => {
    const room = { room_id: 'room', locked: false, participants: [], processors: [], chat: [] };
    const statusNow = [status('prosody', 'me-mic', 'on'), status('expression', 'me-cam', 'off')];
    const about = { participant_id: 'me', host: false, session_key: '', ice_servers: [], protocol_version: 1, invite_url: '', nodes: [] };
    const result = { ...about, resumed: true, room: { ...room, processor_status: statusNow } };
    const state = play(...found, { type: 'connection_lost', nowMs: 1 }, { type: 'joined', result });
    expect(kinds(state)).toEqual(['prosody']);
    expect(state.guesses.expression).toBeUndefined();
    expect(state.prosody['me']?.pitch_hz).toBe(100);
  });

  test('whoever leaves, or comes back as somebody new, takes nothing along', () => {
    const closed = play(...found, { type: 'closed', reason: 'left' });
    expect(closed).toMatchObject({ history: [], guesses: {}, prosody: {}, voices: {}, faces: {}, seen: null, eyes: null });
    expect(kinds(play(...found, { type: 'joining', roomId: 'room' }))).toEqual([]);
  });
});
