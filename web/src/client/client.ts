// A meeting from join to leave. Turns what happens on the wire into actions for one store; draws nothing.

import type { LocalMedia } from './media';
import type { JoinAnswer, JoinResult, Moderate, Requests, Tile } from './protocol';
import { Nodes } from './nodes';
import { PROTOCOL_VERSION } from './protocol';
import { RequestError, Signaling, type FailureCode } from './signaling';
import { restartDelayMs } from './path';
import type { FinalReason, MeetingAction, Source } from './state';
import { Transports } from './transports';

const QUALITY_EVERY_MS = 3000;
const TILES_AFTER_MS = 200;
const LEAVE_WAIT_MS = 1500;
const NEXT_NODE_AFTER_MS = 500;
/** A stranger waits as long as the others may need to learn that a server has died. */
const STRANGER_MISSES = 16;
const HOPS_MAX = 3;

export interface Identity {
  roomId: string;
  name: string;
  token: string | null;
  /** From an earlier page of this tab, to come back as the same participant. */
  sessionKey: string | null;
}

export interface MeetingEvents {
  dispatch(action: MeetingAction): void;
  /** The key for coming back; null once there is nothing to come back to. */
  onSessionKey(key: string | null): void;
  /** Something asked for in the background was refused. */
  onFailure(code: FailureCode): void;
  /** A host switched an own track off, which was on; the device is off already. */
  onMutedByHost(source: Source): void;
  /** After coming back, an own track that was on here was off in the room, and is off here as well now. */
  onFoundMuted(source: Source): void;
}

type Phase = 'outside' | 'joining' | 'inside';

export class MeetingClient {
  readonly #media: LocalMedia;
  readonly #events: MeetingEvents;
  readonly #signaling: Signaling;
  #phase: Phase = 'outside';
  #identity: Identity | null = null;
  #selfId = '';
  /** Own tracks by id: what the room calls them outlives the transports that send them. */
  readonly #own = new Map<string, Source>();
  /** How often entering was put off since it last succeeded. */
  #delays = 0;
  #reopenTimer = 0;
  readonly #nodes: Nodes;
  /** Where the transports lead. */
  #mediaUrl = '';
  /** Redirects in a row that led here. */
  #hops = 0;
  /** Servers in a row that could not be reached before anybody let us in. */
  #misses = 0;
  #nextNodeTimer = 0;
  #transports: Transports | null = null;
  #iceServers: RTCIceServer[] = [];
  /** Offers wait for it: the transports that they are for exist once we have entered. */
  #entered: Promise<void> = Promise.resolve();
  readonly #tiles = new Map<string, Tile>();
  #tilesTimer = 0;
  #qualityTimer = 0;

  /** `url`: the server's origin; left out, the page's own. */
  constructor(media: LocalMedia, events: MeetingEvents, url?: string) {
    this.#media = media;
    this.#events = events;
    this.#nodes = new Nodes(url);
    this.#signaling = new Signaling(url);
    this.#signaling.onConnection((up) => this.#onConnection(up));
    this.#listen();
    media.onTrack = (source, track, muted) => this.#onLocalTrack(source, track, muted);
  }

  /** Connect and enter. How it went is told by `joined` or `join_refused`. */
  join(identity: Identity): void {
    if (this.#phase !== 'outside') return;
    this.#phase = 'joining';
    this.#identity = identity;
    this.#events.dispatch({ type: 'joining', roomId: identity.roomId });
    this.#signaling.open();
  }

  async leave(): Promise<void> {
    const timeout = new Promise((resolve) => window.setTimeout(resolve, LEAVE_WAIT_MS));
    await Promise.race([timeout, this.#signaling.request('leave', {}).catch(() => undefined)]);
    this.#finish('left');
  }

  /** Give up joining or coming back. Nothing is dispatched: whoever gives up knows. */
  cancel(): void {
    this.#close();
  }

  chat(text: string): Promise<null> {
    return this.#signaling.request('chat', { text });
  }

  setProcessor(processor: string, on: boolean): Promise<null> {
    return this.#signaling.request('set_processor', { processor, on });
  }

  moderate(request: Moderate): Promise<null> {
    return this.#signaling.request('moderate', request);
  }

  /** How large a received video is shown now, in device pixels; 0 x 0 while nobody can see it. */
  showTile(trackId: string, width: number, height: number): void {
    const known = this.#tiles.get(trackId);
    if (known?.width === width && known.height === height) return;
    this.#tiles.set(trackId, { track_id: trackId, width, height });
    this.#sendTilesSoon();
  }

  forgetTile(trackId: string): void {
    if (this.#tiles.delete(trackId)) this.#sendTilesSoon();
  }

  /** Try the network path again at once. */
  retryMedia(): void {
    this.#transports?.restart();
  }

  #onConnection(up: boolean): void {
    if (up && this.#identity !== null) {
      this.#clearNextNode();
      this.#entered = this.#enter(this.#identity);
      return;
    }
    this.#tryNextNodeSoon();
    if (this.#phase === 'joining' && this.#identity?.sessionKey === null) {
      if (this.#nodes.several && this.#misses++ < STRANGER_MISSES) return;
      // Somebody who comes back after a page refresh waits instead: the server may be the one that restarts.
      this.#refuse('disconnected');
    } else if (this.#phase === 'inside') {
      this.#events.dispatch({ type: 'connection_lost', nowMs: performance.now() });
    }
  }

  /** Where there are several servers, another one may go on with the room at any moment. */
  #tryNextNodeSoon(): void {
    if (!this.#nodes.several || this.#identity === null || this.#nextNodeTimer !== 0) return;
    this.#nextNodeTimer = window.setTimeout(() => {
      this.#nodes.failed();
      this.#goToNode();
    }, NEXT_NODE_AFTER_MS);
  }

  #clearNextNode(): void {
    window.clearTimeout(this.#nextNodeTimer);
    this.#nextNodeTimer = 0;
  }

  #goToNode(): void {
    this.#clearNextNode();
    window.clearTimeout(this.#reopenTimer);
    this.#signaling.goTo(this.#nodes.url);
  }

  #onRedirect(url: string): void {
    this.#nodes.redirected(url);
    if (this.#hops < HOPS_MAX) {
      this.#hops += 1;
      this.#goToNode();
    } else {
      // In circles, as for the moment in which a server is gone and the others do not know it yet.
      this.#hops = 0;
      this.#tryNextNodeSoon();
    }
  }

  #onMoved(url: string | null): void {
    if (this.#phase !== 'inside') return;
    this.#events.dispatch({ type: 'connection_lost', nowMs: performance.now() });
    this.#nodes.moved(url);
    this.#goToNode();
  }

  async #enter(identity: Identity): Promise<void> {
    let mine = identity;
    try {
      const result = await this.#requestJoin(identity);
      // Given up in the meantime.
      if (this.#identity !== identity) return;
      if ('redirect' in result) {
        this.#onRedirect(result.redirect);
        return;
      }
      mine = { ...identity, sessionKey: result.session_key };
      this.#identity = mine;
      this.#events.onSessionKey(result.session_key);
      this.#onJoined(identity, result);
    } catch (error) {
      if (this.#identity === mine) this.#onJoinFailed(error);
    }
  }

  /** Whoever has a place in the room waits for what will pass, as a worker that restarts; a stranger is told at once. */
  #onJoinFailed(error: unknown): void {
    const code = error instanceof RequestError ? error.code : 'internal';
    const passing = error instanceof RequestError && error.retryable && code !== 'room_full';
    if (!passing || this.#identity?.sessionKey == null) {
      this.#refuse(code);
    } else if (code !== 'disconnected') {
      // A new connection asks again: on this one the server may believe that we have joined.
      this.#signaling.close();
      this.#clearNextNode();
      const delayMs = this.#nodes.several ? NEXT_NODE_AFTER_MS : restartDelayMs(this.#delays++);
      this.#reopenTimer = window.setTimeout(() => this.#reopen(), delayMs);
    }
  }

  #reopen(): void {
    this.#nodes.failed();
    if (this.#nodes.several) this.#signaling.goTo(this.#nodes.url);
    this.#signaling.open();
  }

  async #requestJoin(identity: Identity): Promise<JoinAnswer> {
    const join: Requests['join']['request'] = {
      room_id: identity.roomId,
      name: identity.name,
      token: identity.token,
      session_key: identity.sessionKey,
      fresh_transports: this.#transports === null || this.#mediaUrl !== this.#nodes.url,
      hops: this.#hops,
      protocol_version: PROTOCOL_VERSION,
    };
    try {
      return await this.#signaling.request('join', join);
    } catch (error) {
      const stale = error instanceof RequestError && error.code === 'resume_refused';
      if (!stale) throw error;
      return await this.#signaling.request('join', { ...join, session_key: null });
    }
  }

  #onJoined(identity: Identity, result: JoinResult): void {
    this.#phase = 'inside';
    this.#delays = this.#hops = this.#misses = 0;
    this.#nodes.joined(result.nodes);
    const sameServer = this.#mediaUrl === this.#nodes.url;
    this.#mediaUrl = this.#nodes.url;
    this.#selfId = result.participant_id;
    this.#iceServers = result.ice_servers.map(toIceServer);
    this.#events.dispatch({ type: 'joined', result });
    if (!result.room.participants.some((p) => p.participant_id === result.participant_id)) {
      const self = { participant_id: result.participant_id, name: identity.name, host: result.host, bot: false };
      const participant = { ...self, joined_at: new Date().toISOString(), tracks: [] };
      this.#events.dispatch({ type: 'participant_joined', participant });
    }
    this.#followRoom(result);
    if (result.resumed && sameServer && this.#transports !== null) {
      this.#transports.useIceServers(this.#iceServers);
      this.#transports.restart();
    } else {
      this.#buildTransports();
    }
    this.#sendTilesSoon();
    window.clearInterval(this.#qualityTimer);
    this.#qualityTimer = window.setInterval(() => void this.#reportQuality(), QUALITY_EVERY_MS);
  }

  #buildTransports(): void {
    const everConnected = this.#transports?.everConnected ?? false;
    this.#transports?.close();
    this.#events.dispatch({ type: 'media', media: {} });
    this.#transports = new Transports(this.#signaling, this.#iceServers, everConnected, {
      onPath: (path) => this.#events.dispatch({ type: 'path', path }),
      onMedia: (media) => this.#events.dispatch({ type: 'media', media }),
      onPublished: (source, trackId, muted) => this.#onPublished(source, trackId, muted),
      onFailure: (error) => this.#onFailure(error),
    });
    this.#transports.publish(this.#media.tracks());
  }

  #onPublished(source: Source, trackId: string, muted: boolean): void {
    const participantId = this.#selfId;
    this.#own.set(trackId, source);
    const kind = source === 'camera' || source === 'screen' ? 'video' : 'audio';
    const track = { track_id: trackId, participant_id: participantId, kind, source, muted } as const;
    this.#events.dispatch({ type: 'track_published', track });
  }

  #onLocalTrack(source: Source, track: MediaStreamTrack | null, muted: boolean): void {
    if (this.#transports === null) return;
    const trackId = this.#transports.publisher.trackId(source);
    const takenBack = track === null && (source === 'screen' || source === 'screen_audio');
    if (trackId !== null) {
      this.#events.dispatch(takenBack ? { type: 'track_unpublished', trackId } : { type: 'track_muted', trackId, muted });
    }
    this.#transports.set(source, track, muted);
  }

  #listen(): void {
    const signaling = this.#signaling;
    const { dispatch } = this.#events;
    signaling.on('subscribe_offer', (offer) => {
      void this.#entered.then(() => this.#transports?.answer(offer));
    });
    signaling.on('transport_replace', () => void this.#entered.then(() => this.#buildTransports()));
    signaling.on('ice_servers_changed', (m) => {
      this.#iceServers = m.ice_servers.map(toIceServer);
      this.#transports?.useIceServers(this.#iceServers);
    });
    signaling.on('moved', ({ url }) => this.#onMoved(url));
    signaling.on('participant_joined', ({ participant }) => dispatch({ type: 'participant_joined', participant }));
    signaling.on('participant_left', (m) => dispatch({ type: 'participant_left', participantId: m.participant_id, nowMs: performance.now() }));
    signaling.on('track_published', ({ track }) => dispatch({ type: 'track_published', track }));
    signaling.on('track_unpublished', (m) => dispatch({ type: 'track_unpublished', trackId: m.track_id }));
    signaling.on('track_muted', (m) => {
      dispatch({ type: 'track_muted', trackId: m.track_id, muted: m.muted });
      if (m.by_host && m.muted) this.#onMutedByHost(m.track_id);
    });
    const now = () => performance.now();
    signaling.on('active_speakers', ({ speakers }) => dispatch({ type: 'speakers', speakers, nowMs: now() }));
    signaling.on('finding', ({ finding }) => dispatch({ type: 'finding', finding, nowMs: now() }));
    signaling.on('processors_changed', (m) => dispatch({ type: 'processors', processors: m.processors, status: m.status }));
    signaling.on('chat_message', ({ line }) => dispatch({ type: 'chat', line }));
    signaling.on('room_changed', ({ locked, hosts }) => dispatch({ type: 'room_changed', locked, hosts }));
    signaling.on('connection_quality', (m) => {
      dispatch({ type: 'quality', participantId: m.participant_id, score: m.score, layers: m.layers });
    });
    signaling.on('closed', ({ reason }) => {
      // After these the same session may come back: a reconnect is tried and the person is not bothered.
      if (reason !== 'server_shutdown' && reason !== 'connection_lost' && reason !== 'moved') this.#finish(reason);
    });
  }

  #onMutedByHost(trackId: string): void {
    const source = this.#own.get(trackId);
    if (source !== undefined && this.#switchOff(source)) this.#events.onMutedByHost(source);
  }

  /** A host may have muted us while we were away; publishing again must not undo that. */
  #followRoom(result: JoinResult): void {
    this.#own.clear();
    const self = result.room.participants.find((p) => p.participant_id === result.participant_id);
    for (const { track_id: trackId, source, muted } of self?.tracks ?? []) {
      this.#own.set(trackId, source);
      if (muted && this.#switchOff(source)) this.#events.onFoundMuted(source);
    }
  }

  /** Returns whether it was on. */
  #switchOff(source: Source): boolean {
    const { state } = this.#media;
    if (source === 'screen' || source === 'screen_audio') {
      this.#media.stopScreen();
      return state.screen !== null;
    }
    const device = source === 'camera' ? 'camera' : 'microphone';
    if (state[device].on) void this.#media.setOn(device, false);
    return state[device].on;
  }

  #sendTilesSoon(): void {
    window.clearTimeout(this.#tilesTimer);
    this.#tilesTimer = window.setTimeout(() => {
      if (this.#phase !== 'inside') return;
      const tiles = [...this.#tiles.values()];
      this.#signaling.request('subscribe', { auto: true, tiles }).catch((error: unknown) => this.#onFailure(error));
    }, TILES_AFTER_MS);
  }

  async #reportQuality(): Promise<void> {
    const quality = await this.#transports?.quality();
    if (quality == null) return;
    await this.#signaling.request('report_quality', quality).catch((error: unknown) => this.#onFailure(error));
  }

  #onFailure(error: unknown): void {
    if (error instanceof RequestError) {
      // What was lost with the connection is asked for again after the reconnect.
      if (error.code !== 'disconnected') this.#events.onFailure(error.code);
    } else if (this.#phase === 'inside') {
      this.#events.onFailure('bad_sdp');
    }
  }

  #refuse(code: FailureCode): void {
    this.#close();
    this.#events.dispatch({ type: 'join_refused', code });
  }

  #finish(reason: FinalReason): void {
    if (this.#phase === 'outside') return;
    this.#close();
    this.#events.dispatch({ type: 'closed', reason });
  }

  #close(): void {
    this.#phase = 'outside';
    this.#identity = null;
    this.#signaling.close();
    this.#transports?.close();
    this.#transports = null;
    this.#tiles.clear();
    this.#own.clear();
    this.#delays = this.#hops = this.#misses = 0;
    this.#clearNextNode();
    window.clearTimeout(this.#reopenTimer);
    window.clearTimeout(this.#tilesTimer);
    window.clearInterval(this.#qualityTimer);
    this.#events.onSessionKey(null);
  }
}

function toIceServer(server: JoinResult['ice_servers'][number]): RTCIceServer {
  const ice: RTCIceServer = { urls: server.urls };
  if (server.username !== null) ice.username = server.username;
  if (server.credential !== null) ice.credential = server.credential;
  return ice;
}
