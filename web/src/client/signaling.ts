// Typed requests and events over Socket.IO. Knows names and shapes, nothing about meetings.

import { io, type Socket } from 'socket.io-client';
import type { Ack, ErrorCode, Events, Requests } from './protocol';

const REQUEST_TIMEOUT_MS = 10_000;
/** Hidden and without news for longer than this, the page may have slept through the end of its connection. */
const SLEPT_MS = 10_000;

/** Why a request failed: a code of the server, or `disconnected` if no answer came because the connection is gone. */
export type FailureCode = ErrorCode | 'disconnected';

export class RequestError extends Error {
  constructor(
    readonly code: FailureCode,
    message: string,
    readonly retryable: boolean,
  ) {
    super(message);
    this.name = 'RequestError';
  }
}

export class Signaling {
  #socket: Socket;
  readonly #handlers: [event: string, handler: (message: never) => void][] = [];
  #onUp: (up: boolean) => void = () => undefined;
  /** Between `open()` and `close()`. */
  #wanted = false;
  /** Wall clock, because others may stand still while the machine sleeps. */
  #heardAtMs = 0;
  #hiddenAtMs = 0;

  /** `url`: the server's origin; left out, the page's own. */
  constructor(url = '') {
    this.#socket = this.#socketTo(url);
  }

  /** From now on talk to another server, over a new connection if there is to be one. */
  goTo(url: string): void {
    const old = this.#socket;
    this.#socket = this.#socketTo(url);
    old.disconnect();
    if (this.#wanted) this.#socket.connect();
  }

  /** A socket that is heard as long as it is ours. */
  #socketTo(url: string): Socket {
    const options = {
      autoConnect: false,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 400,
      reconnectionDelayMax: 3000,
      timeout: 8000,
    };
    const socket = url === '' ? io(options) : io(url, options);
    socket.io.on('open', () => {
      socket.io.engine.on('packet', () => {
        this.#heardAtMs = Date.now();
      });
    });
    const tell = (up: boolean) => {
      if (socket === this.#socket) this.#onUp(up);
    };
    socket.on('connect', () => tell(true));
    socket.on('disconnect', (reason) => {
      tell(false);
      // Socket.IO itself comes back after every loss but this one. After `closed` we have disconnected ourselves.
      if (reason === 'io server disconnect' && this.#wanted && socket === this.#socket) socket.connect();
    });
    socket.on('connect_error', () => tell(false));
    for (const [event, handler] of this.#handlers) this.#listen(socket, event, handler);
    return socket;
  }

  #listen(socket: Socket, event: string, handler: (message: never) => void): void {
    socket.on(event, (message: unknown) => {
      if (socket === this.#socket) handler(message as never);
    });
  }

  open(): void {
    this.#wanted = true;
    window.addEventListener('online', this.#onOnline);
    document.addEventListener('visibilitychange', this.#onVisibility);
    this.#socket.connect();
  }

  close(): void {
    this.#wanted = false;
    window.removeEventListener('online', this.#onOnline);
    document.removeEventListener('visibilitychange', this.#onVisibility);
    this.#socket.disconnect();
  }

  /** Called with true at every (re)connection and with false at every loss, whoever caused it. */
  onConnection(handler: (up: boolean) => void): void {
    this.#onUp = handler;
  }

  on<K extends keyof Events>(event: K, handler: (message: Events[K]) => void): void {
    this.#handlers.push([event, handler]);
    this.#listen(this.#socket, event, handler);
  }

  /**
   * Send a request and wait for its ack; rejects with a `RequestError`. Never buffered while offline: a request belongs
   * to the session in which it was made, and what is still wanted after a reconnect is asked for again.
   */
  request<K extends keyof Requests>(event: K, payload: Requests[K]['request']): Promise<Requests[K]['result']> {
    return new Promise((resolve, reject) => {
      if (!this.#socket.connected) {
        reject(new RequestError('disconnected', `${event}: not connected`, true));
        return;
      }
      const sentAtMs = Date.now();
      const answer = (lost: Error | null, ack?: Ack<Requests[K]['result']>) => {
        if (lost !== null || ack === undefined) {
          const code = this.#socket.connected ? 'timeout' : 'disconnected';
          reject(new RequestError(code, `${event}: no answer`, true));
          // A server that is only slow has said something in the meantime.
          if (code === 'timeout' && this.#heardAtMs < sentAtMs) this.#reopen();
        } else if (ack.ok) {
          resolve(ack.result);
        } else {
          reject(new RequestError(ack.error.code, ack.error.message, ack.error.retryable));
        }
      };
      this.#socket.timeout(REQUEST_TIMEOUT_MS).emit(event, payload, answer);
    });
  }

  /** Another network: the old connection leads nowhere, and would be believed in until a heartbeat is missed. */
  readonly #onOnline = (): void => this.#reopen();

  readonly #onVisibility = (): void => {
    const nowMs = Date.now();
    if (document.visibilityState === 'hidden') {
      this.#hiddenAtMs = nowMs;
    } else if (nowMs - Math.max(this.#hiddenAtMs, this.#heardAtMs) > SLEPT_MS) {
      this.#reopen();
    }
  };

  #reopen(): void {
    this.#socket.disconnect();
    // Who hears of the loss may have closed us.
    if (this.#wanted) this.#socket.connect();
  }
}
