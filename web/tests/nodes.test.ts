import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MeetingClient } from '../src/client/client';
import type { LocalMedia } from '../src/client/media';
import { Nodes } from '../src/client/nodes';
import { FakePeerConnection, FakeSocket, refusal, stubBrowser, type Answer } from './fakes';

/** Every connection that was made, in order, and where it went. */
let asked: { url: string; socket: FakeSocket }[];
/** What each server says to a join; undefined: it cannot be reached. */
let servers: Record<string, (() => Answer) | undefined>;
vi.mock('socket.io-client', () => ({
  io: (place: unknown) => {
    const url = typeof place === 'string' ? place : '';
    const socket = new ServerSocket(url);
    asked.push({ url, socket });
    return socket;
  },
}));

class ServerSocket extends FakeSocket {
  constructor(readonly url: string) {
    super();
    this.answer = (event) => (event === 'join' ? servers[url]?.() : { ok: true, result: null });
  }

  override connect(): void {
    if (servers[this.url] === undefined) queueMicrotask(() => this.fire('connect_error'));
    else super.connect();
  }
}

const A = '';
const B = 'https://b.test';
const joined = (nodes: string[], resumed = true) => (): Answer => {
  const room = { room_id: 'room', locked: false, participants: [], processors: [], processor_status: [], chat: [] };
  const rest = { host: false, resumed, ice_servers: [], protocol_version: 1, invite_url: '', nodes };
  return { ok: true, result: { ...rest, participant_id: 'me', session_key: 'key', room } };
};
const redirect = (url: string) => (): Answer => ({ ok: true, result: { redirect: url } });

let client: MeetingClient;
let told: string[];
const identity = { roomId: 'room', name: 'Mira', token: null, sessionKey: null };
const joins = () => asked.flatMap(({ url, socket }) => socket.sentOf('join').map((join): Record<string, unknown> => ({ url, ...join })));
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const now = () => asked[asked.length - 1]!.socket;

beforeEach(() => {
  vi.useFakeTimers();
  stubBrowser();
  asked = [];
  told = [];
  const media = { tracks: () => [], state: {} };
  client = new MeetingClient(media as unknown as LocalMedia, {
    dispatch: (action) => void told.push(action.type),
    onSessionKey: () => undefined,
    onFailure: () => undefined,
    onMutedByHost: () => undefined,
    onFoundMuted: () => undefined,
  });
});

afterEach(() => {
  client.cancel();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe('several servers', () => {
  test('a redirect is followed', async () => {
    servers = { [A]: redirect(B), [B]: joined([A], false) };
    client.join(identity);
    await pass(0);
    expect(joins().map((join) => [join['url'], join['hops']])).toEqual([[A, 0], [B, 1]]);
    expect(told).toContain('joined');
  });

  test('servers that send us in circles are asked again later, in peace', async () => {
    servers = { [A]: redirect(B), [B]: redirect(A) };
    client.join(identity);
    await pass(400);
    expect(joins().map((join) => join['hops'])).toEqual([0, 1, 2, 3]);
    servers = { [A]: joined([B], false), [B]: redirect(A) };
    await pass(600);
    expect(told).toContain('joined');
  });

  test('who is sent to a server that has just died tries the first one again', async () => {
    servers = { [A]: redirect(B) };
    client.join(identity);
    await pass(0);
    servers = { [A]: joined([], false) };
    await pass(600);
    expect(joins().at(-1)).toMatchObject({ url: A, hops: 1 });
    expect(told).not.toContain('join_refused');
    expect(told).toContain('joined');
  });

  test('when there is nobody at all, a stranger is told in the end', async () => {
    servers = { [A]: redirect(B) };
    client.join(identity);
    await pass(0);
    servers = {};
    await pass(20_000);
    expect(told.at(-1)).toBe('join_refused');
  });

  test('when a server dies another one is asked, with the key and for new transports', async () => {
    servers = { [A]: joined([B], false), [B]: joined([A]) };
    client.join(identity);
    await pass(0);
    const before = FakePeerConnection.all.length;
    servers = { [B]: joined([A]) };
    now().connected = false;
    now().fire('disconnect', 'transport close');
    await pass(600);
    expect(joins().at(-1)).toMatchObject({ url: B, session_key: 'key', fresh_transports: true });
    expect(FakePeerConnection.all.length).toBe(2 * before);
    expect(told.filter((type) => type === 'connection_lost').length).toBe(1);
  });

  test('a server that comes back by itself keeps its transports', async () => {
    servers = { [A]: joined([B]), [B]: redirect(A) };
    client.join(identity);
    await pass(0);
    const before = FakePeerConnection.all.length;
    now().connected = false;
    now().fire('disconnect', 'transport close');
    await pass(600);
    expect(joins().at(-1)).toMatchObject({ url: A, session_key: 'key', fresh_transports: false, hops: 1 });
    expect(FakePeerConnection.all.length).toBe(before);
  });

  test('a room that moves is followed at once', async () => {
    servers = { [A]: joined([B], false), [B]: joined([A]) };
    client.join(identity);
    await pass(0);
    const old = now();
    old.fire('moved', { url: B });
    await pass(0);
    expect(joins().at(-1)).toMatchObject({ url: B, session_key: 'key', fresh_transports: true });
    old.fire('closed', { reason: 'room_ended' });
    expect(told).not.toContain('closed');
  });

  test('a server that has lost touch is left for another', async () => {
    servers = { [A]: joined([B], false) };
    client.join(identity);
    await pass(0);
    servers = { [A]: () => refusal('media_unavailable'), [B]: joined([A]) };
    now().fire('moved', { url: A });
    await pass(1200);
    expect(joins().at(-1)).toMatchObject({ url: B });
  });
});

test('the home of the page stays known, and nobody is asked twice in a row', () => {
  const nodes = new Nodes();
  nodes.redirected('b');
  nodes.joined(['c', 'b']);
  const order = [nodes.url];
  for (let i = 0; i < 3; i += 1) {
    nodes.failed();
    order.push(nodes.url);
  }
  expect(order).toEqual(['b', 'c', '', 'b']);
});
