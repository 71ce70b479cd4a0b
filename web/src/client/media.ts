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

const DEVICES = ['microphone', 'camera'] as const;
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
  /** One thing at a time per device: what two questions at once bring would be held by nobody. */
  readonly #turns: Record<Device, Promise<void>> = { microphone: Promise.resolve(), camera: Promise.resolve() };
  /** Counts `close()`: what was asked for before is stopped as soon as it arrives. */
  #closings = 0;
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

  /**
   * Ask for what is wanted and not there yet, in one prompt if possible; what cannot be had is noted as a problem, never
   * thrown.
   */
  async start(wanted: { microphone: boolean; camera: boolean } = { microphone: true, camera: true }): Promise<void> {
    if (navigator.mediaDevices === undefined) {
      this.#setDevice('microphone', { problem: 'insecure' });
      this.#setDevice('camera', { problem: 'insecure' });
      return;
    }
    navigator.mediaDevices.ondevicechange = () => void this.#list();
    const asked = () => this.#openAll(DEVICES.filter((device) => wanted[device]));
    await this.#inTurn('microphone', () => this.#inTurn('camera', asked));
  }

  /** A device that is there is switched at once; one that is not waits until whoever asks for it now has an answer. */
  async setOn(device: Device, on: boolean): Promise<void> {
    if (this.#state[device].track !== null) {
      this.#switch(device, on);
      return;
    }
    await this.#inTurn(device, async () => {
      if (this.#state[device].track !== null) this.#switch(device, on);
      else if (on) await this.#openAndList(device, true);
    });
  }

  /** Use another device. What was off stays off: a microphone silently, a camera by not being opened. */
  async choose(device: Device, deviceId: string): Promise<void> {
    await this.#inTurn(device, async () => {
      const { on, track, problem } = this.#state[device];
      stop(track);
      this.#setDevice(device, { deviceId, track: null, on: false });
      // After a problem the choice is meant as its remedy.
      if (device === 'microphone' || on || problem !== null) await this.#openAndList(device, on || problem !== null);
    });
  }

  chooseSpeaker(speakerId: string): void {
    this.#set({ speakerId });
  }

  /** Resolves to false if the person closed the browser's dialog. */
  async startScreen(): Promise<boolean> {
    const stream = await this.#ask(() => {
      return navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 15 }, audio: true });
    }).catch(() => null);
    const screen = stream?.getVideoTracks()[0];
    if (screen === undefined) return false;
    stop(this.#state.screen);
    stop(this.#screenAudio);
    screen.contentHint = 'detail';
    screen.onended = () => this.stopScreen();
    this.#screenAudio = stream?.getAudioTracks()[0] ?? null;
    this.#set({ screen });
    this.onTrack('screen', screen, false);
    this.onTrack('screen_audio', this.#screenAudio, false);
    return true;
  }

  stopScreen(): void {
    if (this.#state.screen === null) return;
    stop(this.#state.screen);
    stop(this.#screenAudio);
    this.#screenAudio = null;
    this.#set({ screen: null });
    this.onTrack('screen', null, false);
    this.onTrack('screen_audio', null, false);
  }

  /** Release every device, also those that are still being asked for. What was chosen stays chosen. */
  close(): void {
    this.#closings += 1;
    for (const { track } of this.tracks()) stop(track);
    this.#screenAudio = null;
    const { microphone, camera, devices, speakerId } = this.#state;
    this.#set({
      ...NO_MEDIA,
      microphone: { ...NO_DEVICE, deviceId: microphone.deviceId },
      camera: { ...NO_DEVICE, deviceId: camera.deviceId },
      devices,
      speakerId,
    });
  }

  #inTurn(device: Device, work: () => Promise<void>): Promise<void> {
    const done = this.#turns[device].then(work);
    this.#turns[device] = done.catch(() => undefined);
    return done;
  }

  /** What the browser grants; null, and nothing left running, if `close()` came first. */
  async #ask(question: () => Promise<MediaStream>): Promise<MediaStream | null> {
    const closings = this.#closings;
    const stream = await question();
    if (closings === this.#closings) return stream;
    for (const track of stream.getTracks()) stop(track);
    return null;
  }

  async #openAll(wanted: readonly Device[]): Promise<void> {
    const closings = this.#closings;
    this.#set({ asking: true });
    await this.#list();
    const ask = wanted.filter((device) => this.#state[device].track === null && this.#present(device));
    if (ask.length < 2 || !(await this.#openBoth())) {
      for (const device of ask) {
        if (closings === this.#closings) await this.#open(device, true);
      }
    }
    await this.#list();
    this.#set({ asking: false });
  }

  /** One prompt for both. False: at least one of them cannot be had, ask for each to find out which. */
  async #openBoth(): Promise<boolean> {
    try {
      const { microphone, camera } = this.#state;
      const video = cameraConstraints(camera.deviceId);
      const audio = soundConstraints(microphone.deviceId);
      const stream = await this.#ask(() => navigator.mediaDevices.getUserMedia({ audio, video }));
      for (const track of stream?.getTracks() ?? []) this.#adopt(track, true);
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

  async #openAndList(device: Device, on: boolean): Promise<void> {
    await this.#open(device, on);
    if (navigator.mediaDevices !== undefined) await this.#list();
  }

  async #open(device: Device, on: boolean): Promise<void> {
    if (navigator.mediaDevices === undefined) {
      this.#setDevice(device, { problem: 'insecure' });
      return;
    }
    const { deviceId } = this.#state[device];
    const constraints = device === 'camera' ? { video: cameraConstraints(deviceId) } : { audio: soundConstraints(deviceId) };
    try {
      const stream = await this.#ask(() => navigator.mediaDevices.getUserMedia(constraints));
      for (const track of stream?.getTracks() ?? []) this.#adopt(track, on);
    } catch (error) {
      this.#setDevice(device, { on: false, track: null, problem: problemOf(error) });
      this.#announce(device);
    }
  }

  /** A camera that is off is not only disabled but released: the light beside it goes out. */
  #switch(device: Device, on: boolean): void {
    const { track } = this.#state[device];
    if (device === 'camera' && !on) {
      stop(track);
      this.#setDevice('camera', { on: false, track: null });
    } else {
      if (track !== null) track.enabled = on;
      this.#setDevice(device, { on });
    }
    this.#announce(device);
  }

  #adopt(track: MediaStreamTrack, on: boolean): void {
    const device = track.kind === 'audio' ? 'microphone' : 'camera';
    track.contentHint = track.kind === 'audio' ? 'speech' : 'motion';
    track.onended = () => void this.#lost(device, track);
    track.enabled = on;
    const before = this.#state[device].track;
    if (before !== track) stop(before);
    const deviceId = track.getSettings().deviceId ?? '';
    this.#setDevice(device, { on, track, problem: null, deviceId });
    this.#announce(device);
  }

  /** `ended` without our doing: the device was unplugged or taken away. Go on with another one if there is one. */
  async #lost(device: Device, track: MediaStreamTrack): Promise<void> {
    if (this.#state[device].track !== track) return;
    const wasOn = this.#state[device].on;
    this.#setDevice(device, { on: false, track: null, problem: 'unplugged', deviceId: '' });
    this.#announce(device);
    await this.#list();
    const another = this.#state.devices.some((info) => info.kind === DEVICE_KIND[device]);
    if (wasOn && another) await this.setOn(device, true);
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
