// The person's own devices: asking for them, switching them, noticing when they go away.

import type { Source } from './state';

/** Why a device gives nothing. `insecure`: the page has no access to devices at all, because it is not served over https. */
export type DeviceProblem = 'insecure' | 'denied' | 'missing' | 'busy' | 'unplugged' | 'failed';
export type Device = 'microphone' | 'camera';

export interface DeviceState {
  on: boolean;
  track: MediaStreamTrack | null;
  problem: DeviceProblem | null;
  /** The chosen device; empty: the browser's default. */
  deviceId: string;
}

export interface LocalState {
  asking: boolean;
  microphone: DeviceState;
  camera: DeviceState;
  screen: MediaStreamTrack | null;
  devices: MediaDeviceInfo[];
  speakerId: string;
}

const NO_DEVICE: DeviceState = { on: false, track: null, problem: null, deviceId: '' };
export const NO_MEDIA: LocalState = {
  asking: false,
  microphone: NO_DEVICE,
  camera: NO_DEVICE,
  screen: null,
  devices: [],
  speakerId: '',
};

const DEVICE_KIND = { microphone: 'audioinput', camera: 'videoinput' } as const;

/** Classify what `getUserMedia` throws (Media Capture and Streams, section 10.2). */
export function problemOf(error: unknown): DeviceProblem {
  const name = error instanceof DOMException || error instanceof Error ? error.name : '';
  if (name === 'NotAllowedError' || name === 'SecurityError') return 'denied';
  if (name === 'NotFoundError' || name === 'OverconstrainedError') return 'missing';
  if (name === 'NotReadableError' || name === 'AbortError') return 'busy';
  return 'failed';
}

export class LocalMedia {
  #state: LocalState = NO_MEDIA;
  readonly #changed: (state: LocalState) => void;
  #screenAudio: MediaStreamTrack | null = null;
  /** Told what each source sends from now on; set by whoever publishes. */
  onTrack: (source: Source, track: MediaStreamTrack | null, muted: boolean) => void = () => undefined;
  /** Told when a device disappears in use; `replaced` if another one took its place. */
  onUnplugged: (device: Device, replaced: boolean) => void = () => undefined;

  constructor(changed: (state: LocalState) => void) {
    this.#changed = changed;
  }

  get state(): LocalState {
    return this.#state;
  }

  /** Every track that is there now, as it should be published. */
  tracks(): { source: Source; track: MediaStreamTrack; muted: boolean }[] {
    const { microphone, camera, screen } = this.#state;
    const all = [
      { source: 'microphone' as const, track: microphone.track, muted: !microphone.on },
      { source: 'camera' as const, track: camera.track, muted: !camera.on },
      { source: 'screen' as const, track: screen, muted: false },
      { source: 'screen_audio' as const, track: this.#screenAudio, muted: false },
    ];
    return all.flatMap(({ source, track, muted }) => (track === null ? [] : [{ source, track, muted }]));
  }

  /** Ask for what there is, in one prompt if possible; what cannot be had is noted as a problem, never thrown. */
  async start(wanted: { microphone: boolean; camera: boolean } = { microphone: true, camera: true }): Promise<void> {
    if (navigator.mediaDevices === undefined) {
      this.#setDevice('microphone', { problem: 'insecure' });
      this.#setDevice('camera', { problem: 'insecure' });
      return;
    }
    navigator.mediaDevices.ondevicechange = () => void this.#list();
    this.#set({ asking: true });
    await this.#list();
    const ask = (['microphone', 'camera'] as const).filter((device) => wanted[device] && this.#present(device));
    if (ask.length === 2 && (await this.#openBoth())) ask.length = 0;
    for (const device of ask) await this.#open(device);
    await this.#list();
    this.#set({ asking: false });
  }

  async setOn(device: Device, on: boolean): Promise<void> {
    const { track } = this.#state[device];
    if (on && track === null) {
      await this.#open(device);
      await this.#list();
      return;
    }
    if (device === 'camera' && !on) {
      // Not only disabled but released: the light beside the camera goes out.
      stop(track);
      this.#setDevice('camera', { on: false, track: null });
    } else {
      if (track !== null) track.enabled = on;
      this.#setDevice(device, { on: on && track !== null });
    }
    this.#announce(device);
  }

  async choose(device: Device, deviceId: string): Promise<void> {
    const wasOn = this.#state[device].on;
    stop(this.#state[device].track);
    this.#setDevice(device, { deviceId, track: null, on: false });
    await this.#open(device);
    if (device === 'microphone' && !wasOn) await this.setOn('microphone', false);
  }

  chooseSpeaker(speakerId: string): void {
    this.#set({ speakerId });
  }

  /** Resolves to false if the person closed the browser's dialog. */
  async startScreen(): Promise<boolean> {
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 15 }, audio: true });
    } catch {
      return false;
    }
    const [screen] = stream.getVideoTracks();
    if (screen === undefined) return false;
    screen.contentHint = 'detail';
    screen.onended = () => this.stopScreen();
    this.#screenAudio = stream.getAudioTracks()[0] ?? null;
    this.#set({ screen });
    this.onTrack('screen', screen, false);
    this.onTrack('screen_audio', this.#screenAudio, false);
    return true;
  }

  stopScreen(): void {
    stop(this.#state.screen);
    stop(this.#screenAudio);
    this.#screenAudio = null;
    this.#set({ screen: null });
    this.onTrack('screen', null, false);
    this.onTrack('screen_audio', null, false);
  }

  /** Release every device. */
  close(): void {
    for (const { track } of this.tracks()) stop(track);
    this.#screenAudio = null;
    this.#set({ ...NO_MEDIA, speakerId: this.#state.speakerId });
  }

  /** One prompt for both. False: at least one of them cannot be had, ask for each to find out which. */
  async #openBoth(): Promise<boolean> {
    try {
      const { microphone, camera } = this.#state;
      const video = cameraConstraints(camera.deviceId);
      const stream = await navigator.mediaDevices.getUserMedia({ audio: soundConstraints(microphone.deviceId), video });
      for (const track of stream.getTracks()) this.#adopt(track);
      return true;
    } catch (error) {
      if (problemOf(error) !== 'denied') return false;
      const granted = await Promise.all([isGranted('microphone'), isGranted('camera')]);
      if (granted.includes(true)) return false;
      // The person has said no to both: asking again for each would only annoy.
      this.#setDevice('microphone', { problem: 'denied' });
      this.#setDevice('camera', { problem: 'denied' });
      return true;
    }
  }

  async #open(device: Device): Promise<void> {
    if (navigator.mediaDevices === undefined) {
      this.#setDevice(device, { problem: 'insecure' });
      return;
    }
    const { deviceId } = this.#state[device];
    const constraints = device === 'camera' ? { video: cameraConstraints(deviceId) } : { audio: soundConstraints(deviceId) };
    try {
      const stream = await navigator.mediaDevices.getUserMedia(constraints);
      for (const track of stream.getTracks()) this.#adopt(track);
      this.#announce(device);
    } catch (error) {
      this.#setDevice(device, { on: false, track: null, problem: problemOf(error) });
    }
  }

  #adopt(track: MediaStreamTrack): void {
    const device = track.kind === 'audio' ? 'microphone' : 'camera';
    track.contentHint = track.kind === 'audio' ? 'speech' : 'motion';
    track.onended = () => void this.#lost(device, track);
    const deviceId = track.getSettings().deviceId ?? '';
    this.#setDevice(device, { on: true, track, problem: null, deviceId });
  }

  /** `ended` without our doing: the device was unplugged or taken away. Go on with another one if there is one. */
  async #lost(device: Device, track: MediaStreamTrack): Promise<void> {
    if (this.#state[device].track !== track) return;
    const wasOn = this.#state[device].on;
    this.#setDevice(device, { on: false, track: null, problem: 'unplugged', deviceId: '' });
    this.#announce(device);
    await this.#list();
    if (wasOn && this.#state.devices.some((info) => info.kind === DEVICE_KIND[device])) await this.#open(device);
    const replaced = this.#state[device].track !== null;
    if (!replaced) this.#setDevice(device, { problem: 'unplugged' });
    this.onUnplugged(device, replaced);
  }

  #announce(device: Device): void {
    const { track, on } = this.#state[device];
    this.onTrack(device, track, !on);
  }

  #present(device: Device): boolean {
    const present = this.#state.devices.some((info) => info.kind === DEVICE_KIND[device]);
    if (!present) this.#setDevice(device, { problem: 'missing' });
    return present;
  }

  async #list(): Promise<void> {
    this.#set({ devices: await navigator.mediaDevices.enumerateDevices() });
  }

  #setDevice(device: Device, change: Partial<DeviceState>): void {
    this.#set({ [device]: { ...this.#state[device], ...change } });
  }

  #set(change: Partial<LocalState>): void {
    this.#state = { ...this.#state, ...change };
    this.#changed(this.#state);
  }
}

function stop(track: MediaStreamTrack | null): void {
  if (track === null) return;
  track.onended = null;
  track.stop();
}

async function isGranted(name: string): Promise<boolean> {
  try {
    const status = await navigator.permissions.query({ name: name as PermissionName });
    return status.state === 'granted';
  } catch {
    return false; // a browser that does not answer for devices
  }
}

/**
 * The browser's own noise suppression is off because the server denoises: two suppressors in a row eat into speech, and
 * what listens on the server (captions, detectors) is to hear the sound as it was. Echo can only be cancelled here, where the
 * loudspeaker's signal is known.
 */
function soundConstraints(deviceId: string): MediaTrackConstraints {
  const chosen = deviceId === '' ? {} : { deviceId: { ideal: deviceId } };
  return { echoCancellation: true, noiseSuppression: false, autoGainControl: true, ...chosen };
}

function cameraConstraints(deviceId: string): MediaTrackConstraints {
  const chosen = deviceId === '' ? { facingMode: 'user' } : { deviceId: { ideal: deviceId } };
  return { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 }, ...chosen };
}
