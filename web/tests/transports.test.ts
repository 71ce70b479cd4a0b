import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RequestError, type Signaling } from '../src/client/signaling';
import { Transports } from '../src/client/transports';
import { FakePeerConnection, stubBrowser } from './fakes';

let refuse: RequestError | null;
let asked: string[];
let failures: number;
let transports: Transports;

beforeEach(() => {
  vi.useFakeTimers();
  stubBrowser();
  refuse = null;
  asked = [];
  failures = 0;
  const request = async (event: string) => {
    asked.push(event);
    if (refuse !== null) throw refuse;
    return event === 'publish' ? { sdp: '', track_ids: { 0: 'my-mic' } } : null;
  };
  transports = new Transports({ request } as unknown as Signaling, [], true, {
    onPath: () => undefined,
    onMedia: () => undefined,
    onPublished: () => undefined,
    onFailure: () => (failures += 1),
  });
});

afterEach(() => {
  transports.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const subscriber = () => FakePeerConnection.all[1] as FakePeerConnection;
const microphone = { source: 'microphone' as const, track: { kind: 'audio' } as MediaStreamTrack, muted: false };

test('a restart that is refused for now is asked for until the connection is there, ever more slowly', async () => {
  refuse = new RequestError('timeout', '', true);
  subscriber().become('connected');
  subscriber().become('failed');
  await vi.advanceTimersByTimeAsync(8_000);
  // After 0.5 s, then 1, 2 and 4 s later.
  expect(asked.length).toBe(4);
  refuse = null;
  await vi.advanceTimersByTimeAsync(8_000);
  expect(asked.length).toBe(5);
  subscriber().become('connected');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked.length).toBe(5);
});

test('a restart that was granted but changed nothing is asked for again', async () => {
  subscriber().become('failed');
  await vi.advanceTimersByTimeAsync(11_000);
  expect(asked).toEqual(['restart_subscribe', 'restart_subscribe']);
});

test('what is refused for good is told and not asked for again', async () => {
  refuse = new RequestError('not_joined', '', false);
  subscriber().become('failed');
  await vi.advanceTimersByTimeAsync(60_000);
  expect([asked.length, failures]).toEqual([1, 1]);
});

test('publishing is repeated until it is taken, and told of once', async () => {
  refuse = new RequestError('media_unavailable', '', true);
  transports.publish([microphone]);
  await vi.advanceTimersByTimeAsync(4_000);
  expect([asked.length, failures]).toEqual([4, 1]);
  refuse = null;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked.length).toBe(5);
  expect(transports.publisher.trackId('microphone')).toBe('my-mic');
});

test('after closing nothing is asked for', async () => {
  refuse = new RequestError('timeout', '', true);
  transports.publish([microphone]);
  transports.close();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked.length).toBeLessThanOrEqual(1);
});
