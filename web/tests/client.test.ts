import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MeetingClient } from '../src/client/client';
import type { LocalMedia } from '../src/client/media';
import type { TrackInfo } from '../src/client';
import { FakePeerConnection, FakeSocket, refusal, stubBrowser, type Answer } from './fakes';

let socket: FakeSocket;
vi.mock('socket.io-client', () => ({ io: () => socket }));

/** Devices that are all on. */
class FakeMedia {
  state = { microphone: { on: true }, camera: { on: true }, screen: {} as object | null };
  off: string[] = [];
  tracks = () => [];
  async setOn(device: 'microphone' | 'camera') {
    this.off.push(device);
    this.state = { ...this.state, [device]: { on: false } };
  }
  stopScreen() {
    this.off.push('screen');
    this.state = { ...this.state, screen: null };
  }
}

let page: ReturnType<typeof stubBrowser>['page'];
let media: FakeMedia;
let client: MeetingClient;
let told: string[];
let own: TrackInfo[];
const identity = { roomId: 'room', name: 'Mira', token: null, sessionKey: 'from before' };

const joined = (): Answer => {
  const self = { participant_id: 'me', name: 'Mira', host: false, bot: false, joined_at: '', tracks: own };
  const room = { room_id: 'room', locked: false, participants: [self], processors: [], processor_status: [], chat: [] };
  const rest = { host: false, resumed: true, ice_servers: [], protocol_version: 1, invite_url: '', nodes: [] };
  return { ok: true, result: { ...rest, participant_id: 'me', session_key: 'new', room } };
};
const ownTrack = (source: TrackInfo['source'], muted = false): TrackInfo => {
  const kind = source === 'camera' || source === 'screen' ? 'video' : 'audio';
  return { track_id: `my-${source}`, participant_id: 'me', kind, source, muted };
};

beforeEach(() => {
  vi.useFakeTimers();
  ({ page } = stubBrowser());
  socket = new FakeSocket();
  socket.answer = (event) => (event === 'join' ? joined() : { ok: true, result: null });
  media = new FakeMedia();
  told = [];
  own = [];
  client = new MeetingClient(media as unknown as LocalMedia, {
    dispatch: (action) => void told.push(action.type),
    onSessionKey: (key) => void told.push(`key ${key}`),
    onFailure: (code) => void told.push(`failure ${code}`),
    onMutedByHost: (source) => void told.push(`host muted ${source}`),
    onFoundMuted: (source) => void told.push(`found muted ${source}`),
  });
});

afterEach(() => {
  client.cancel();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const settle = () => vi.advanceTimersByTimeAsync(0);

describe('relays whose credentials expire', () => {
  const iceServers = (username: string) => [{ urls: ['turn:relay.example'], username, credential: `of ${username}` }];
  const used = () => FakePeerConnection.all.map((connection) => connection.configuration.iceServers?.[0]?.username);

  test('are asked with the latest credentials by what is gathered later', async () => {
    client.join({ ...identity, sessionKey: null });
    await settle();
    socket.fire('ice_servers_changed', { ice_servers: iceServers('1:a') });
    const [publisher, subscriber] = FakePeerConnection.all as [FakePeerConnection, FakePeerConnection];
    expect(used()).toEqual([undefined, '1:a']);
    publisher.configuration.iceTransportPolicy = 'relay';
    const track = { kind: 'audio', getSettings: () => ({}) } as unknown as MediaStreamTrack;
    (media as unknown as LocalMedia).onTrack('microphone', track, false);
    await settle();
    expect(used()).toEqual(['1:a', '1:a']);
    expect(publisher.configuration.iceTransportPolicy).toBe('relay');

    socket.fire('ice_servers_changed', { ice_servers: iceServers('2:a') });
    expect(used()).toEqual(['1:a', '2:a']);
    subscriber.become('connected');
    client.retryMedia();
    await settle();
    expect(used()).toEqual(['2:a', '2:a']);
  });

  test('are known to transports that are built anew', async () => {
    client.join({ ...identity, sessionKey: null });
    await settle();
    socket.fire('ice_servers_changed', { ice_servers: iceServers('1:a') });
    socket.fire('transport_replace', {});
    await settle();
    expect(used().slice(2)).toEqual(['1:a', '1:a']);
  });
});

describe('coming back', () => {
  test('waits while a worker restarts, with the key that it has', async () => {
    socket.answer = (event) => (event === 'join' ? refusal('media_unavailable') : undefined);
    client.join(identity);
    await vi.advanceTimersByTimeAsync(4_000);
    // At once, then 0.5, 1 and 2 s later.
    expect(socket.sentOf('join').map((join) => join['session_key'])).toEqual(Array(4).fill('from before'));
    expect(told).toEqual(['joining']);
    socket.answer = (event) => (event === 'join' ? joined() : { ok: true, result: null });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(told).toContain('joined');
  });

  test('can be given up', async () => {
    socket.answer = () => refusal('media_unavailable');
    client.join(identity);
    await settle();
    client.cancel();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(socket.sentOf('join').length).toBe(1);
    expect(told).toEqual(['joining', 'key null']);
  });

  test('a stranger is told at once', async () => {
    socket.answer = () => refusal('media_unavailable');
    client.join({ ...identity, sessionKey: null });
    await settle();
    expect(told).toEqual(['joining', 'key null', 'join_refused']);
  });

  test('what a host has muted in the meantime stays muted', async () => {
    own = [ownTrack('microphone', true), ownTrack('camera', false), ownTrack('screen', true)];
    client.join(identity);
    await settle();
    expect(media.off).toEqual(['microphone', 'screen']);
    expect(told.filter((line) => line.startsWith('found'))).toEqual(['found muted microphone', 'found muted screen']);
  });
});

test.each([
  ['microphone', 'microphone'],
  ['camera', 'camera'],
  ['screen', 'screen'],
  ['screen_audio', 'screen'],
] as const)('a host who mutes my %s switches off the %s and nothing else', async (source, device) => {
  own = [ownTrack(source)];
  client.join(identity);
  await settle();
  socket.fire('track_muted', { track_id: `my-${source}`, muted: true, by_host: true });
  socket.fire('track_muted', { track_id: 'of-another', muted: true, by_host: true });
  expect(media.off).toEqual([device]);
  expect(told.filter((line) => line.startsWith('host'))).toEqual([`host muted ${source}`]);
});

describe('a connection that only seems to be there is opened anew', () => {
  beforeEach(async () => {
    client.join(identity);
    await settle();
  });

  test('on another network', async () => {
    window.dispatchEvent(new Event('online'));
    await settle();
    expect(socket.connections).toBe(2);
  });

  test('if a request was not answered and nothing else was heard', async () => {
    socket.answer = (event) => (event === 'join' ? joined() : undefined);
    const chat = client.chat('hello').catch((error: { code: string }) => error.code);
    await vi.advanceTimersByTimeAsync(10_100);
    expect(await chat).toBe('timeout');
    expect(socket.connections).toBe(2);
  });

  test('not if the server is only slow', async () => {
    socket.answer = (event) => (event === 'chat' ? undefined : { ok: true, result: null });
    const chat = client.chat('hello').catch((error: { code: string }) => error.code);
    await vi.advanceTimersByTimeAsync(5_000);
    socket.io.engine.fire('packet');
    await vi.advanceTimersByTimeAsync(5_100);
    expect([await chat, socket.connections]).toEqual(['timeout', 1]);
  });

  const hide = async (milliseconds: number) => {
    page.visibilityState = 'hidden';
    page.dispatchEvent(new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(milliseconds);
    page.visibilityState = 'visible';
    page.dispatchEvent(new Event('visibilitychange'));
    await settle();
  };

  test('after a long sleep', async () => {
    await hide(11_000);
    expect(socket.connections).toBe(2);
  });

  test('not after a short one, and not once the meeting is left', async () => {
    await hide(9_000);
    expect(socket.connections).toBe(1);
    await client.leave();
    await hide(11_000);
    expect(socket.connections).toBe(1);
  });
});
