// The publish transport: we offer, the server answers. One transceiver per source, kept and reused.

import type { PublishedTrack } from './protocol';
import type { Signaling } from './signaling';
import type { Source } from './state';

const RIDS = ['q', 'h', 'f'];

/**
 * Up to three layers, lowest first, as in the order of `rid`s that the server expects; it forwards one of them to each viewer.
 * Chromium sends only as many as a picture is large enough for, and leaves out the last ones: so a small camera has fewer, and the
 * last of those is its full size.
 */
export function cameraEncodings({ width = 1280, height = 720 }: { width?: number; height?: number }): RTCRtpEncodingParameters[] {
  const pixels = width * height;
  const scales = pixels >= 960 * 540 ? [4, 2, 1] : pixels >= 480 * 270 ? [2, 1] : [1];
  return RIDS.map((rid, index) => {
    const scale = scales[index];
    if (scale === undefined) return { rid, active: false };
    return { rid, active: true, scaleResolutionDownBy: scale, maxBitrate: bitrateOf(width / scale) };
  });
}

function bitrateOf(width: number): number {
  if (width <= 320) return 150_000;
  return width <= 640 ? 400_000 : 1_200_000;
}

const SCREEN_ENCODINGS: RTCRtpEncodingParameters[] = [{ maxBitrate: 2_500_000 }];

interface Sending {
  transceiver: RTCRtpTransceiver;
  muted: boolean;
  trackId: string | null;
}

export interface PublisherEvents {
  onPublished(source: Source, trackId: string, muted: boolean): void;
  onState(state: RTCPeerConnectionState): void;
}

export class Publisher {
  readonly #signaling: Signaling;
  readonly #events: PublisherEvents;
  readonly #pc: RTCPeerConnection;
  #iceServers: RTCIceServer[];
  readonly #sending = new Map<Source, Sending>();
  /** One thing at a time: two negotiations that overlap would answer each other's offers. */
  #queue: Promise<void> = Promise.resolve();

  constructor(signaling: Signaling, iceServers: RTCIceServer[], events: PublisherEvents) {
    this.#signaling = signaling;
    this.#events = events;
    this.#iceServers = iceServers;
    this.#pc = new RTCPeerConnection({ iceServers });
    this.#pc.onconnectionstatechange = () => events.onState(this.#pc.connectionState);
  }

  useIceServers(iceServers: RTCIceServer[]): void {
    this.#iceServers = iceServers;
  }

  /** The id under which the room knows the track of `source`. */
  trackId(source: Source): string | null {
    return this.#sending.get(source)?.trackId ?? null;
  }

  stats(): Promise<RTCStatsReport> {
    return this.#pc.getStats();
  }

  /** Send several tracks with one negotiation; rejects with `RequestError` if the server refuses. */
  start(tracks: { source: Source; track: MediaStreamTrack; muted: boolean }[]): Promise<void> {
    return this.#enqueue(async () => {
      for (const { source, track, muted } of tracks) this.#add(source, track, muted);
      if (tracks.length > 0) await this.#negotiate(false);
    });
  }

  /** Make `source` send `track`. Null: a muted camera or microphone keeps its place in the room, a screen is taken back. */
  set(source: Source, track: MediaStreamTrack | null, muted: boolean): Promise<void> {
    return this.#enqueue(async () => {
      const sending = this.#sending.get(source);
      if (sending === undefined) {
        if (track === null) return;
        this.#add(source, track, muted);
        await this.#negotiate(false);
        return;
      }
      await sending.transceiver.sender.replaceTrack(track);
      // A browser that refuses keeps the layers that it has: no reason to do without the camera.
      if (source === 'camera' && track !== null) await setEncodings(sending.transceiver.sender, track).catch(() => undefined);
      const isScreen = source === 'screen' || source === 'screen_audio';
      const direction = isScreen && track === null ? 'inactive' : 'sendonly';
      if (sending.transceiver.direction !== direction) {
        sending.transceiver.direction = direction;
        sending.muted = muted;
        await this.#negotiate(false);
      } else if (sending.muted !== muted) {
        sending.muted = muted;
        await this.#sendMute(sending);
      }
    });
  }

  /** New ICE credentials on the same DTLS association: the path changes, the session stays. */
  restart(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#sending.size > 0) await this.#negotiate(true);
    });
  }

  close(): void {
    this.#pc.onconnectionstatechange = null;
    this.#pc.close();
  }

  #enqueue(work: () => Promise<void>): Promise<void> {
    const result = this.#queue.then(async () => {
      if (this.#pc.signalingState !== 'closed') await work();
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #add(source: Source, track: MediaStreamTrack, muted: boolean): void {
    const init: RTCRtpTransceiverInit = { direction: 'sendonly' };
    if (source === 'camera') init.sendEncodings = cameraEncodings(track.getSettings());
    if (source === 'screen') init.sendEncodings = SCREEN_ENCODINGS;
    const transceiver = this.#pc.addTransceiver(track, init);
    if (track.kind === 'video') preferVp8(transceiver);
    this.#sending.set(source, { transceiver, muted, trackId: null });
  }

  async #negotiate(iceRestart: boolean): Promise<void> {
    // Only where something will be gathered: elsewhere other servers would make Chromium restart ICE with this offer.
    if (iceRestart || this.#pc.localDescription === null) {
      this.#pc.setConfiguration({ ...this.#pc.getConfiguration(), iceServers: this.#iceServers });
    }
    await this.#pc.setLocalDescription(await this.#pc.createOffer({ iceRestart }));
    const tracks: PublishedTrack[] = [];
    const sourceOfMid = new Map<string, Source>();
    for (const [source, { transceiver, muted }] of this.#sending) {
      if (transceiver.mid === null || transceiver.direction !== 'sendonly') continue;
      tracks.push({ mid: transceiver.mid, source, muted });
      sourceOfMid.set(transceiver.mid, source);
    }
    // The server learns our address from our own connectivity checks, so the offer need not wait for candidates.
    const result = await this.#signaling.request('publish', { sdp: this.#pc.localDescription?.sdp ?? '', tracks });
    await this.#pc.setRemoteDescription({ type: 'answer', sdp: result.sdp });
    for (const [mid, trackId] of Object.entries(result.track_ids)) {
      const source = sourceOfMid.get(mid);
      const sending = source === undefined ? undefined : this.#sending.get(source);
      if (source === undefined || sending === undefined) continue;
      sending.trackId = trackId;
      this.#events.onPublished(source, trackId, sending.muted);
    }
  }

  async #sendMute(sending: Sending): Promise<void> {
    if (sending.trackId === null) return;
    await this.#signaling.request('mute', { track_id: sending.trackId, muted: sending.muted });
  }
}

/** Another camera may have another size. */
async function setEncodings(sender: RTCRtpSender, track: MediaStreamTrack): Promise<void> {
  const parameters = sender.getParameters();
  const wanted = new Map(cameraEncodings(track.getSettings()).map((encoding) => [encoding.rid, encoding]));
  for (const encoding of parameters.encodings) Object.assign(encoding, wanted.get(encoding.rid));
  await sender.setParameters(parameters);
}

/** VP8 first: every browser decodes it, and its simulcast layers can be switched without rewriting payloads. */
function preferVp8(transceiver: RTCRtpTransceiver): void {
  const codecs = RTCRtpSender.getCapabilities('video')?.codecs;
  if (codecs === undefined) return;
  const isVp8 = (codec: RTCRtpCodec) => codec.mimeType.toLowerCase() === 'video/vp8';
  transceiver.setCodecPreferences([...codecs.filter(isVp8), ...codecs.filter((codec) => !isVp8(codec))]);
}
