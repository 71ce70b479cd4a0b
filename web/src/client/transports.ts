// Both connections of one meeting: built together, watched together, restarted one by one.

import { BLOCKED_AFTER_MS, mediaPath, restartDelayMs } from './path';
import type { SubscribeOffer } from './protocol';
import { Publisher } from './publisher';
import { qualityBetween, readTotals, type ReceptionTotals, type Stat } from './quality';
import type { ReportQuality } from './protocol';
import { RequestError, type Signaling } from './signaling';
import type { MediaPath, Source } from './state';
import { Subscriber } from './subscriber';

/** `disconnected` often heals by itself within this time; after it we help. */
const HEAL_MS = 3000;
/** A restart that was granted but changed nothing within this time is asked for again. */
const EFFECT_MS = 10_000;

export interface TransportsEvents {
  onPath(path: MediaPath): void;
  onMedia(media: Record<string, MediaStreamTrack>): void;
  onPublished(source: Source, trackId: string, muted: boolean): void;
  /** Something was refused. What may be granted later is asked for again and told of only once. */
  onFailure(error: unknown): void;
}

type Side = 'publish' | 'subscribe';
type Sent = { source: Source; track: MediaStreamTrack; muted: boolean };

export class Transports {
  readonly publisher: Publisher;
  readonly #subscriber: Subscriber;
  readonly #signaling: Signaling;
  readonly #events: TransportsEvents;
  readonly #states: Record<Side, RTCPeerConnectionState> = { publish: 'new', subscribe: 'new' };
  readonly #attempts: Record<Side, number> = { publish: 0, subscribe: 0 };
  readonly #restarts = new Map<Side, number>();
  /** The server has not taken what we publish now, whatever the state of the connection. */
  #publishOwed = false;
  #closed = false;
  /** When the first description was applied: from then on ICE has something to try. Infinity before. */
  #beganAtMs = Infinity;
  #patience = 0;
  #everConnected: boolean;
  #totals: ReceptionTotals = readTotals([]);

  /** `everConnected`: true if earlier transports of this meeting worked. */
  constructor(signaling: Signaling, iceServers: RTCIceServer[], everConnected: boolean, events: TransportsEvents) {
    this.#signaling = signaling;
    this.#events = events;
    this.#everConnected = everConnected;
    const onPublish = (state: RTCPeerConnectionState) => this.#setState('publish', state);
    const onSubscribe = (state: RTCPeerConnectionState) => this.#setState('subscribe', state);
    const onPublished: TransportsEvents['onPublished'] = (source, trackId, muted) => {
      this.#began('publish');
      events.onPublished(source, trackId, muted);
    };
    const onMedia: TransportsEvents['onMedia'] = (media) => {
      this.#began('subscribe');
      events.onMedia(media);
    };
    this.publisher = new Publisher(signaling, iceServers, { onPublished, onState: onPublish });
    this.#subscriber = new Subscriber(signaling, iceServers, { onMedia, onState: onSubscribe });
  }

  get everConnected(): boolean {
    return this.#everConnected;
  }

  /** Credentials of relays expire: those for whatever is gathered from now on. */
  useIceServers(iceServers: RTCIceServer[]): void {
    this.publisher.useIceServers(iceServers);
    this.#subscriber.useIceServers(iceServers);
  }

  answer(offer: SubscribeOffer): void {
    this.#subscriber.answer(offer).catch(this.#events.onFailure);
  }

  publish(tracks: Sent[]): void {
    this.#watch('publish', this.publisher.start(tracks));
  }

  /** As `Publisher.set`. */
  set(source: Source, track: MediaStreamTrack | null, muted: boolean): void {
    this.#watch('publish', this.publisher.set(source, track, muted));
  }

  /** ICE restart of both, after the signaling connection came back or when the person asks for it. */
  restart(): void {
    this.#attempts.publish = 0;
    this.#attempts.subscribe = 0;
    this.#restartNow('publish');
    this.#restartNow('subscribe');
  }

  /** What was received since the last call; null if nothing. */
  async quality(): Promise<ReportQuality | null> {
    const report = await this.#subscriber.stats();
    const totals = readTotals([...report.values()] as Stat[]);
    const quality = qualityBetween(this.#totals, totals);
    this.#totals = totals;
    return quality;
  }

  close(): void {
    this.#closed = true;
    window.clearTimeout(this.#patience);
    for (const timer of this.#restarts.values()) window.clearTimeout(timer);
    this.publisher.close();
    this.#subscriber.close();
  }

  /** A connection without a usable candidate stays `new` for ever; for a person it is connecting, and then blocked. */
  #began(side: Side): void {
    if (this.#states[side] !== 'new') return;
    if (this.#beganAtMs === Infinity) {
      this.#beganAtMs = performance.now();
      this.#patience = window.setTimeout(() => this.#tell(), BLOCKED_AFTER_MS + 50);
    }
    this.#setState(side, 'connecting');
  }

  #setState(side: Side, state: RTCPeerConnectionState): void {
    this.#states[side] = state;
    if (state === 'connected') {
      this.#attempts[side] = 0;
      if (side === 'subscribe' || !this.#publishOwed) this.#cancelRestart(side);
    } else if (state === 'disconnected') {
      this.#restartAfter(side, HEAL_MS);
    } else if (state === 'failed') {
      this.#restartAfter(side, restartDelayMs(this.#attempts[side]++));
    }
    this.#tell();
  }

  #tell(): void {
    const waitedMs = performance.now() - this.#beganAtMs;
    const path = mediaPath(Object.values(this.#states), this.#everConnected, waitedMs);
    if (path === 'connected') this.#everConnected = true;
    this.#events.onPath(path);
  }

  #restartAfter(side: Side, delayMs: number): void {
    this.#cancelRestart(side);
    this.#restarts.set(
      side,
      window.setTimeout(() => this.#restartNow(side), delayMs),
    );
  }

  #cancelRestart(side: Side): void {
    window.clearTimeout(this.#restarts.get(side));
    this.#restarts.delete(side);
  }

  #restartNow(side: Side): void {
    this.#cancelRestart(side);
    const asked = side === 'publish' ? this.publisher.restart() : this.#signaling.request('restart_subscribe', {});
    this.#watch(side, asked);
  }

  #watch(side: Side, asked: Promise<unknown>): void {
    asked.then(
      () => this.#onGranted(side),
      (error: unknown) => this.#onRefused(side, error),
    );
  }

  #onGranted(side: Side): void {
    if (this.#closed) return;
    if (side === 'publish') this.#publishOwed = false;
    const state = this.#states[side];
    if (state === 'failed' || state === 'disconnected') this.#restartAfter(side, EFFECT_MS);
  }

  /** A lost connection to the server is not refusal: `restart()` follows once it is back. */
  #onRefused(side: Side, error: unknown): void {
    if (this.#closed) return;
    const passing = error instanceof RequestError && error.retryable;
    if (!passing || this.#attempts[side] === 0) this.#events.onFailure(error);
    if (!passing || error.code === 'disconnected') return;
    if (side === 'publish') this.#publishOwed = true;
    else if (this.#states.subscribe === 'connected') return;
    this.#restartAfter(side, restartDelayMs(this.#attempts[side]++));
  }
}
