import { expect, test } from 'vitest';
import { MAX_LEFT } from '../src/client/speech';
import { OUTSIDE, reduceMeeting, shareOf, type MeetingAction, type Speaker } from '../src/client';

function after(...actions: MeetingAction[]) {
  return actions.reduce(reduceMeeting, { ...OUTSIDE, phase: 'inside' as const }).speech;
}

function talking(nowMs: number, ...ids: string[]): MeetingAction {
  const speakers: Speaker[] = ids.map((id) => ({ participant_id: id, track_id: `${id}-mic`, level_dbov: -20 }));
  return { type: 'speakers', speakers, nowMs };
}

test('nobody has a share before anybody has spoken', () => {
  expect(shareOf(after(), 'ada', 5000)).toEqual({ spokenMs: 0, share: null });
  expect(shareOf(after(talking(1000), talking(9000)), 'ada', 9000)).toEqual({ spokenMs: 0, share: null });
});

test('a share is of all the speaking, also of what goes on just now', () => {
  const speech = after(talking(1000, 'ada'), talking(4000), talking(5000, 'ben'));
  expect(shareOf(speech, 'ada', 6000)).toEqual({ spokenMs: 3000, share: 0.75 });
  expect(shareOf(speech, 'ben', 6000)).toEqual({ spokenMs: 1000, share: 0.25 });
  expect(shareOf(speech, 'ben', 8000).share).toBe(0.5);
});

test('two who talk at once both speak', () => {
  const speech = after(talking(0, 'ada'), talking(1000, 'ada', 'ben'), talking(2000));
  expect([shareOf(speech, 'ada', 9000), shareOf(speech, 'ben', 9000)]).toEqual([
    { spokenMs: 2000, share: 2 / 3 },
    { spokenMs: 1000, share: 1 / 3 },
  ]);
});

test('who leaves takes nobody\'s share along, and a lost connection is no speech', () => {
  const left = after(talking(0, 'ada'), talking(3000, 'ben'), talking(4000), { type: 'participant_left', participantId: 'ada', nowMs: 4000 });
  expect(shareOf(left, 'ben', 4000)).toEqual({ spokenMs: 1000, share: 0.25 });
  expect(shareOf(left, 'ada', 9000)).toEqual({ spokenMs: 3000, share: 0.75 });
  const lost = after(talking(0, 'ada'), { type: 'connection_lost', nowMs: 2000 }, talking(30_000));
  expect(shareOf(lost, 'ada', 30_000).spokenMs).toBe(2000);
});

test('who leaves while talking has talked until then, and no longer', () => {
  const left = after(talking(0, 'ada', 'ben'), { type: 'participant_left', participantId: 'ada', nowMs: 2000 }, talking(6000));
  expect(shareOf(left, 'ada', 9000)).toEqual({ spokenMs: 2000, share: 0.25 });
  expect(shareOf(left, 'ben', 9000)).toEqual({ spokenMs: 6000, share: 0.75 });
});

test('of too many who left the first ones are only counted together', () => {
  const visit = (index: number): MeetingAction[] => [
    talking(2 * index, `p${index}`),
    { type: 'participant_left', participantId: `p${index}`, nowMs: 2 * index + 1 },
  ];
  const speech = after(...Array.from({ length: MAX_LEFT + 2 }, (_, index) => visit(index)).flat());
  expect([speech.left.length, Object.keys(speech.spokenMs).length, speech.goneMs]).toEqual([MAX_LEFT, MAX_LEFT, 2]);
  expect(shareOf(speech, 'p2', 9000)).toEqual({ spokenMs: 1, share: 1 / (MAX_LEFT + 2) });
});
