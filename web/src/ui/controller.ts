// What the person can do. Components call these; the answers come back through the store.

import {
  clearSession,
  loadSession,
  LocalMedia,
  MeetingClient,
  ROOM_PATTERN,
  RequestError,
  saveSession,
  Store,
  tokenOf,
  type Device,
  type FailureCode,
  type Session,
} from '../client';
import { reduceApp, type AppAction, type AppState, type Dialog, type Notice, type Panel, type ServerConfig } from './app_state';
import { LANGUAGES, type Language, type Strings } from './strings';

const NOTICE_MS = 7000;
const NAME_KEY = 'candor.name';
const LANGUAGE_KEY = 'candor.language';
const SHORTCUTS_KEY = 'candor.shortcuts';

export class Controller {
  readonly store: Store<AppState, AppAction>;
  readonly #media: LocalMedia;
  readonly #client: MeetingClient;
  #sessionKey: string | null = null;
  #noticeId = 0;
  /** Which devices were on when the last meeting ended. */
  #atTheEnd = { microphone: true, camera: true };

  constructor(initial: AppState) {
    this.store = new Store<AppState, AppAction>(reduceApp, initial);
    const dispatch = (action: AppAction) => this.#dispatch(action);
    this.#media = new LocalMedia((local) => {
      dispatch({ type: 'local', local });
      this.#remember();
    });
    this.#media.onUnplugged = (device, replaced) => this.#onUnplugged(device, replaced);
    this.#client = new MeetingClient(this.#media, {
      dispatch,
      onSessionKey: (key) => this.#onSessionKey(key),
      onFailure: (code) => this.#fail(code),
      onMutedByHost: (source) => this.#notifyUntilDismissed(this.strings.mutedByHost[source]),
      onFoundMuted: (source) => this.#notifyUntilDismissed(this.strings.foundMuted[source]),
    });
  }

  get strings(): Strings {
    return LANGUAGES[this.store.state.language].strings;
  }

  /** Read the server's configuration, then either show the lobby or, after a page refresh, go straight back in. */
  async start(): Promise<void> {
    const session = loadSession(sessionStorage, this.store.state.room);
    if (session !== null) this.store.dispatch({ type: 'coming_back' });
    await this.#loadConfig();
    if (session !== null) await this.#comeBack(session);
    else await this.#media.start();
  }

  /** `name` and `room` are checked by the form; the server checks them again. */
  join(): void {
    const { name, room } = this.store.state;
    if (name.trim() === '' || !ROOM_PATTERN.test(room)) return;
    localStorage.setItem(NAME_KEY, name.trim());
    const path = `/r/${room}`;
    if (location.pathname !== path) history.replaceState(null, '', path);
    this.#client.join({ roomId: room, name: name.trim(), token: tokenOf(sessionStorage, room), sessionKey: null });
  }

  async leave(): Promise<void> {
    await this.#client.leave();
  }

  /** From the page after leaving: the devices again as they were, then in. */
  async rejoin(): Promise<void> {
    this.store.dispatch({ type: 'to_start' });
    this.store.dispatch({ type: 'coming_back' });
    if (await this.#startDevices(this.#atTheEnd)) this.join();
  }

  /** No longer wait for the server to take the person back in. */
  cancelComingBack(): void {
    this.#client.cancel();
    this.store.dispatch({ type: 'to_start' });
  }

  async toStart(): Promise<void> {
    this.store.dispatch({ type: 'to_start' });
    await this.retryDevices();
  }

  async retryDevices(): Promise<void> {
    await this.#media.start();
  }

  async toggle(device: Device): Promise<void> {
    const { local, meeting } = this.store.state;
    await this.#media.setOn(device, !local[device].on);
    const problem = this.store.state.local[device].problem;
    if (problem !== null && !local[device].on && meeting.phase === 'inside') {
      const { title, text } = this.strings.deviceProblems[device][problem];
      this.notify(`${title}. ${text}`, 'warning');
    }
  }

  async choose(device: Device, deviceId: string): Promise<void> {
    await this.#media.choose(device, deviceId);
  }

  chooseSpeaker(speakerId: string): void {
    this.#media.chooseSpeaker(speakerId);
  }

  async toggleScreen(): Promise<void> {
    if (this.store.state.local.screen === null) await this.#media.startScreen();
    else this.#media.stopScreen();
  }

  setName(name: string): void {
    this.store.dispatch({ type: 'name', name });
  }

  setRoom(room: string): void {
    this.store.dispatch({ type: 'room', room });
  }

  setLanguage(language: Language): void {
    localStorage.setItem(LANGUAGE_KEY, language);
    document.documentElement.lang = LANGUAGES[language].tag;
    this.store.dispatch({ type: 'language', language });
  }

  togglePanel(panel: Panel): void {
    this.store.dispatch({ type: 'panel', panel: this.store.state.panel === panel ? null : panel });
  }

  closePanel(): void {
    this.store.dispatch({ type: 'panel', panel: null });
  }

  showDialog(dialog: Dialog | null): void {
    this.store.dispatch({ type: 'dialog', dialog });
  }

  setCaptionsOnTiles(on: boolean): void {
    this.store.dispatch({ type: 'captions_on_tiles', on });
  }

  setShortcutsOn(on: boolean): void {
    localStorage.setItem(SHORTCUTS_KEY, on ? 'on' : 'off');
    this.store.dispatch({ type: 'shortcuts', on });
  }

  setSoundBlocked(blocked: boolean): void {
    this.store.dispatch({ type: 'sound_blocked', blocked });
  }

  /** Resolves to whether it was said. */
  chat(text: string): Promise<boolean> {
    return this.#try(this.#client.chat(text));
  }

  async setProcessor(processor: string, on: boolean): Promise<void> {
    const done = await this.#try(this.#client.setProcessor(processor, on));
    if (done) this.store.dispatch({ type: 'chose', processor, on });
  }

  mute(trackId: string): Promise<boolean> {
    return this.#try(this.#client.moderate({ action: 'mute', track_id: trackId }));
  }

  remove(participantId: string): Promise<boolean> {
    this.showDialog(null);
    return this.#try(this.#client.moderate({ action: 'remove', participant_id: participantId }));
  }

  setLocked(locked: boolean): Promise<boolean> {
    return this.#try(this.#client.moderate({ action: locked ? 'lock' : 'unlock' }));
  }

  end(): Promise<boolean> {
    this.showDialog(null);
    return this.#try(this.#client.moderate({ action: 'end' }));
  }

  retryMedia(): void {
    this.#client.retryMedia();
  }

  showTile(trackId: string, width: number, height: number): void {
    this.#client.showTile(trackId, width, height);
  }

  forgetTile(trackId: string): void {
    this.#client.forgetTile(trackId);
  }

  /** Resolves to whether the clipboard took it. */
  async copy(text: string): Promise<boolean> {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      this.notify(this.strings.copyFailed, 'warning');
      return false;
    }
  }

  notify(text: string, tone: Notice['tone']): void {
    const id = ++this.#noticeId;
    this.store.dispatch({ type: 'notice', notice: { id, text, tone, stays: false } });
    window.setTimeout(() => this.dismiss(id), NOTICE_MS);
  }

  /** For what must not be overlooked, as that one is no longer heard. */
  #notifyUntilDismissed(text: string): void {
    const id = ++this.#noticeId;
    this.store.dispatch({ type: 'notice', notice: { id, text, tone: 'warning', stays: true } });
  }

  dismiss(id: number): void {
    this.store.dispatch({ type: 'notice_over', id });
  }

  async #loadConfig(): Promise<void> {
    try {
      const answer = await fetch('/api/v1/config');
      if (!answer.ok) return;
      const config = (await answer.json()) as ServerConfig;
      this.store.dispatch({ type: 'config', config });
      if (this.store.state.room === '' && config.demo_room !== null) this.setRoom(config.demo_room);
    } catch {
      // Without it there is no default room and no secure address to offer; joining says what is wrong with the server.
    }
  }

  async #comeBack(session: Session): Promise<void> {
    this.setName(session.name);
    const { roomId, name, sessionKey, microphoneOn, cameraOn } = session;
    if (!(await this.#startDevices({ microphone: microphoneOn, camera: cameraOn }))) return;
    this.#client.join({ roomId, name, sessionKey, token: tokenOf(sessionStorage, roomId) });
  }

  /** Resolves to false if the person no longer wants to come back by the time the browser has answered. */
  async #startDevices(on: { microphone: boolean; camera: boolean }): Promise<boolean> {
    await this.#media.start({ microphone: true, camera: on.camera });
    if (!on.microphone) await this.#media.setOn('microphone', false);
    return this.store.state.comingBack;
  }

  /** Whoever is no longer in a meeting is no longer heard or seen, however it ended. */
  #dispatch(action: AppAction): void {
    if (action.type === 'closed') {
      const { microphone, camera } = this.store.state.local;
      this.#atTheEnd = { microphone: microphone.on, camera: camera.on };
      this.#media.close();
    } else if (action.type === 'join_refused') {
      this.#media.stopScreen();
    }
    this.store.dispatch(action);
  }

  #onSessionKey(key: string | null): void {
    this.#sessionKey = key;
    if (key === null) clearSession(sessionStorage);
    else this.#remember();
  }

  #remember(): void {
    if (this.#sessionKey === null) return;
    const { name, room, local } = this.store.state;
    const on = { microphoneOn: local.microphone.on, cameraOn: local.camera.on };
    saveSession(sessionStorage, { roomId: room, name: name.trim(), sessionKey: this.#sessionKey, ...on });
  }

  #onUnplugged(device: Device, replaced: boolean): void {
    const texts = replaced ? this.strings.replaced : this.strings.unplugged;
    if (this.store.state.meeting.phase !== 'outside') this.notify(texts[device], 'warning');
  }

  async #try(request: Promise<null>): Promise<boolean> {
    try {
      await request;
      return true;
    } catch (error) {
      this.#fail(error instanceof RequestError ? error.code : 'internal');
      return false;
    }
  }

  #fail(code: FailureCode): void {
    const { title, text } = this.strings.failures[code];
    this.notify(`${title}. ${text}`, 'warning');
  }
}

/** What the browser remembers of earlier visits. */
export function remembered(): { name: string; language: Language | null; shortcutsOn: boolean } {
  const language = localStorage.getItem(LANGUAGE_KEY);
  return {
    name: localStorage.getItem(NAME_KEY) ?? '',
    language: language === 'en' || language === 'zh' ? language : null,
    shortcutsOn: localStorage.getItem(SHORTCUTS_KEY) !== 'off',
  };
}
