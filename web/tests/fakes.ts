// What a browser and a server do, as far as the tests of the client need it.

import { vi } from 'vitest';

type Handler = (...args: never[]) => unknown;
export type Answer = { ok: true; result: unknown } | { ok: false; error: { code: string; message: string; retryable: boolean } };

class Emitter {
  readonly #handlers = new Map<string, Handler[]>();

  on(event: string, handler: Handler): void {
    this.#handlers.set(event, [...(this.#handlers.get(event) ?? []), handler]);
  }

  fire(event: string, ...args: unknown[]): void {
    for (const handler of this.#handlers.get(event) ?? []) handler(...(args as never[]));
  }
}

/** Socket.IO as the page sees it. `answer` is the server; undefined: it says nothing, and the ack times out. */
export class FakeSocket extends Emitter {
  connected = false;
  connections = 0;
  readonly sent: { event: string; payload: Record<string, unknown> }[] = [];
  answer: (event: string) => Answer | undefined = () => ({ ok: true, result: null });
  readonly io = Object.assign(new Emitter(), { engine: new Emitter() });

  connect(): void {
    queueMicrotask(() => {
      this.connected = true;
      this.connections += 1;
      this.io.engine = new Emitter();
      this.io.fire('open');
      this.fire('connect');
    });
  }

  disconnect(): void {
    if (!this.connected) return;
    this.connected = false;
    this.fire('disconnect', 'io client disconnect');
  }

  timeout(limitMs: number) {
    const emit = (event: string, payload: Record<string, unknown>, ack: (lost: Error | null, answer?: Answer) => void) => {
      this.sent.push({ event, payload });
      const answer = this.answer(event);
      if (answer === undefined) setTimeout(() => ack(new Error('timeout')), limitMs);
      else queueMicrotask(() => ack(null, answer));
    };
    return { emit };
  }

  sentOf(event: string): Record<string, unknown>[] {
    return this.sent.filter((request) => request.event === event).map((request) => request.payload);
  }
}

export const refusal = (code: string, retryable = true): Answer => ({ ok: false, error: { code, message: '', retryable } });

/** A connection that changes its state when a test says so. */
export class FakePeerConnection {
  static all: FakePeerConnection[] = [];
  connectionState: RTCPeerConnectionState = 'new';
  signalingState = 'stable';
  localDescription: { sdp: string } | null = null;
  configuration: RTCConfiguration;
  onconnectionstatechange: () => void = () => undefined;
  readonly #transceivers: { mid: string; direction: string; sender: { replaceTrack(): Promise<void> } }[] = [];

  constructor(configuration: RTCConfiguration) {
    this.configuration = configuration;
    FakePeerConnection.all.push(this);
  }

  become(state: RTCPeerConnectionState): void {
    this.connectionState = state;
    this.onconnectionstatechange();
  }

  addTransceiver() {
    const mid = String(this.#transceivers.length);
    const transceiver = { mid, direction: 'sendonly', sender: { replaceTrack: async () => undefined }, setCodecPreferences: () => undefined };
    this.#transceivers.push(transceiver);
    return transceiver;
  }

  getConfiguration = () => this.configuration;
  setConfiguration(configuration: RTCConfiguration): void {
    this.configuration = configuration;
  }

  getStats = async () => new Map();
  createOffer = async () => ({});
  setLocalDescription = async () => {
    this.localDescription = { sdp: '' };
  };
  setRemoteDescription = async () => undefined;

  close(): void {
    this.signalingState = 'closed';
  }
}

/** Call before a test that builds connections; end with `vi.unstubAllGlobals()`. */
export function stubBrowser(): { page: EventTarget & { visibilityState: string } } {
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  FakePeerConnection.all = [];
  vi.stubGlobal('window', globalThis);
  vi.stubGlobal('document', page);
  vi.stubGlobal('RTCPeerConnection', FakePeerConnection);
  vi.stubGlobal('RTCRtpSender', { getCapabilities: () => null });
  const target = new EventTarget();
  vi.stubGlobal('addEventListener', target.addEventListener.bind(target));
  vi.stubGlobal('removeEventListener', target.removeEventListener.bind(target));
  vi.stubGlobal('dispatchEvent', target.dispatchEvent.bind(target));
  return { page };
}
