// The subscribe transport: the server offers, we answer, strictly in order.

import type { SubscribeOffer } from './protocol';
import type { Signaling } from './signaling';

export interface SubscriberEvents {
  /** Everything that is received now, by track id. */
  onMedia(media: Record<string, MediaStreamTrack>): void;
  onState(state: RTCPeerConnectionState): void;
}

export class Subscriber {
  readonly #signaling: Signaling;
  readonly #events: SubscriberEvents;
  readonly #pc: RTCPeerConnection;
  #queue: Promise<void> = Promise.resolve();

  constructor(signaling: Signaling, iceServers: RTCIceServer[], events: SubscriberEvents) {
    this.#signaling = signaling;
    this.#events = events;
    this.#pc = new RTCPeerConnection({ iceServers });
    this.#pc.onconnectionstatechange = () => events.onState(this.#pc.connectionState);
  }

  useIceServers(iceServers: RTCIceServer[]): void {
    if (this.#pc.signalingState !== 'closed') this.#pc.setConfiguration({ ...this.#pc.getConfiguration(), iceServers });
  }

  /** Answer an offer after all earlier ones; rejects if it cannot be applied or the answer is refused. */
  answer(offer: SubscribeOffer): Promise<void> {
    const result = this.#queue.then(() => this.#answer(offer));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  stats(): Promise<RTCStatsReport> {
    return this.#pc.getStats();
  }

  close(): void {
    this.#pc.onconnectionstatechange = null;
    this.#pc.close();
  }

  async #answer(offer: SubscribeOffer): Promise<void> {
    if (this.#pc.signalingState === 'closed') return;
    await this.#pc.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
    await this.#pc.setLocalDescription();
    this.#events.onMedia(this.#received(offer));
    const sdp = this.#pc.localDescription?.sdp ?? '';
    await this.#signaling.request('subscribe_answer', { sdp, version: offer.version });
  }

  /** An m-line is reused for other tracks, so what it carries is known from the offer's `tracks`, never from its msid. */
  #received(offer: SubscribeOffer): Record<string, MediaStreamTrack> {
    const media: Record<string, MediaStreamTrack> = {};
    for (const transceiver of this.#pc.getTransceivers()) {
      const carried = transceiver.mid === null ? undefined : offer.tracks[transceiver.mid];
      if (carried !== undefined) media[carried.track_id] = transceiver.receiver.track;
    }
    return media;
  }
}
