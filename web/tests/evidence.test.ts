import { expect, test } from 'vitest';
import { OUTSIDE, reduceMeeting, type FaceAuthenticity, type MeetingState, type VoiceAuthenticity } from '../src/client';
import { evidenceOf, isDoubted } from '../src/ui/processing';

function evidence(change: Partial<VoiceAuthenticity>): VoiceAuthenticity {
  return {
    kind: 'voice_authenticity',
    room_id: 'room',
    participant_id: 'ada',
    track_id: 'ada-mic',
    epoch: 0,
    start_ms: 0,
    end_ms: 30_000,
    model: 'test@1',
    verdict: 'likely_synthetic',
    reason: '',
    likelihood: 0.97,
    score: -9,
    evidence_ms: 12_000,
    windows: 3,
    known_errors: 'Often wrong.',
    ...change,
  };
}

function person(id: string) {
  return { participant_id: id, name: id, bot: false, host: false, joined_at: '2026-01-01T00:00:00Z', tracks: [] };
}

function meeting(...on: string[]): MeetingState {
  return {
    ...OUTSIDE,
    selfId: 'ben',
    participants: [person('ada'), person('ben')],
    processorStatus: on.map((track_id) => ({ track_id, processor: 'voice_authenticity', state: 'on', reason: '' })),
  };
}

function heard(state: MeetingState, ...findings: VoiceAuthenticity[]): MeetingState {
  return findings.reduce((now, finding) => reduceMeeting(now, { type: 'finding', finding, nowMs: 0 }), state);
}

test('the newest evidence about each voice is kept, oneself first', () => {
  const ben = evidence({ participant_id: 'ben', track_id: 'ben-mic', verdict: 'likely_genuine' });
  const state = heard(meeting('ada-mic', 'ben-mic'), evidence({ verdict: 'inconclusive' }), evidence({}), ben);
  expect(evidenceOf(state, 'voice_authenticity').map(({ name, found }) => [name, found.verdict])).toEqual([
    ['ben', 'likely_genuine'],
    ['ada', 'likely_synthetic'],
  ]);
  expect(isDoubted(state, 'ada', 'voice_authenticity')).toBe(true);
  expect(isDoubted(state, 'ben', 'voice_authenticity')).toBe(false);
});

test('a picture on the wall does not hide what was found of a person, and who left takes it along', () => {
  const face = (face_id: string, change: object) =>
    ({ ...evidence({}), kind: 'face_authenticity', track_id: 'ada-cam', face_id, ...change }) as FaceAuthenticity;
  const on = [{ track_id: 'ada-cam', processor: 'face_authenticity', state: 'on' as const, reason: '' }];
  const state = { ...meeting(), processorStatus: on };
  const add = (now: MeetingState, finding: FaceAuthenticity) => reduceMeeting(now, { type: 'finding', finding, nowMs: 0 });
  const both = add(add(state, face('face-1', {})), face('face-2', { verdict: 'insufficient_evidence', reason: 'small' }));
  expect(isDoubted(both, 'ada', 'face_authenticity')).toBe(true);
  const left = add(both, face('face-1', { verdict: 'insufficient_evidence', reason: 'gone' }));
  expect(isDoubted(left, 'ada', 'face_authenticity')).toBe(false);
  const off = reduceMeeting(both, { type: 'processors', processors: [], status: [] });
  const again = reduceMeeting(off, { type: 'processors', processors: [], status: on });
  expect(isDoubted(again, 'ada', 'face_authenticity')).toBe(false);
});

test('what was found is shown no longer once somebody switches it off', () => {
  const state = heard(meeting('ada-mic'), evidence({}));
  expect(isDoubted(state, 'ada', 'voice_authenticity')).toBe(true);
  expect(isDoubted({ ...state, processorStatus: [] }, 'ada', 'voice_authenticity')).toBe(false);
});
