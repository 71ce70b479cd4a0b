import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LocalMedia } from '../src/client/media';

/** Devices that count what is running. `grant` answers the oldest question that is still open. */
class Devices {
  readonly live = new Set<MediaStreamTrack>();
  readonly #open: (() => void)[] = [];
  asked = 0;

  async enumerateDevices() {
    return [
      { kind: 'audioinput', deviceId: 'd' },
      { kind: 'videoinput', deviceId: 'd' },
    ];
  }

  getUserMedia(constraints: MediaStreamConstraints) {
    this.asked += 1;
    const kinds = [constraints.audio ? ['audio'] : [], constraints.video ? ['video'] : []].flat();
    return new Promise((resolve) => {
      this.#open.push(() => {
        const tracks = kinds.map((kind) => this.#track(kind));
        resolve({ getTracks: () => tracks, getVideoTracks: () => tracks, getAudioTracks: () => [] });
      });
    });
  }

  getDisplayMedia() {
    return this.getUserMedia({ video: true });
  }

  async grant(): Promise<void> {
    await vi.waitFor(() => expect(this.#open.length, 'a question to the browser').toBeGreaterThan(0));
    this.#open.shift()?.();
  }

  running(kind: string): number {
    return [...this.live].filter((track) => track.kind === kind).length;
  }

  #track(kind: string): MediaStreamTrack {
    const stop = () => void this.live.delete(track);
    const track = { kind, enabled: true, onended: null, getSettings: () => ({ deviceId: 'd' }), stop } as unknown as MediaStreamTrack;
    this.live.add(track);
    return track;
  }
}

let devices: Devices;
let media: LocalMedia;
const told: string[] = [];

beforeEach(() => {
  devices = new Devices();
  vi.stubGlobal('navigator', { mediaDevices: devices, permissions: { query: async () => ({ state: 'granted' }) } });
  media = new LocalMedia(() => undefined);
  told.length = 0;
  media.onTrack = (source, track, muted) => told.push(`${source} ${track === null ? 'gone' : 'there'} ${muted ? 'muted' : 'on'}`);
});

afterEach(() => void vi.unstubAllGlobals());

test('starting twice asks once, and closing leaves nothing running', async () => {
  const both = Promise.all([media.start(), media.start()]);
  await devices.grant();
  await both;
  expect([devices.asked, devices.live.size]).toEqual([1, 2]);
  await media.setOn('camera', false);
  expect(devices.running('video')).toBe(0);
  media.close();
  expect(devices.live.size).toBe(0);
});

test('a double click opens one camera, and off is off', async () => {
  const both = Promise.all([media.setOn('camera', true), media.setOn('camera', true)]);
  await devices.grant();
  await both;
  expect([devices.asked, media.state.camera.on]).toEqual([1, true]);
  await media.setOn('camera', false);
  expect(devices.live.size).toBe(0);
});

test('off wins if it comes while the browser still asks', async () => {
  const both = Promise.all([media.setOn('camera', true), media.setOn('camera', false)]);
  await devices.grant();
  await both;
  expect([media.state.camera.on, devices.live.size]).toEqual([false, 0]);
});

test('what the browser grants after the end is stopped at once', async () => {
  const starting = media.start();
  const sharing = media.startScreen();
  await vi.waitFor(() => expect(devices.asked).toBe(2));
  media.close();
  await devices.grant();
  await devices.grant();
  await starting;
  expect(await sharing).toBe(false);
  expect([devices.live.size, media.state.screen, media.state.camera.track]).toEqual([0, null, null]);
});

test('another microphone stays muted, and is never heard in between', async () => {
  const opening = media.setOn('microphone', true);
  await devices.grant();
  await opening;
  await media.setOn('microphone', false);
  const choosing = media.choose('microphone', 'other');
  await devices.grant();
  await choosing;
  expect(told).toEqual(['microphone there on', 'microphone there muted', 'microphone there muted']);
  expect([media.state.microphone.track?.enabled, devices.running('audio')]).toEqual([false, 1]);
});

test('a second screen takes the place of the first', async () => {
  for (const _ of [1, 2]) {
    const sharing = media.startScreen();
    await devices.grant();
    expect(await sharing).toBe(true);
  }
  expect(devices.running('video')).toBe(1);
  media.stopScreen();
  expect(devices.live.size).toBe(0);
});
