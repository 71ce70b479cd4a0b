// Typed requests and events over Socket.IO. Knows names and shapes, nothing about meetings.

import { io, type Socket } from 'socket.io-client';
import type { Ack, ErrorCode, Events, Requests } from './protocol';

const REQUEST_TIMEOUT_MS = 10_000;

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
  readonly #socket: Socket;

  /** `url`: the server's origin; left out, the page's own. */
  constructor(url?: string) {
    const options = {
      autoConnect: false,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: 400,
      reconnectionDelayMax: 3000,
      timeout: 8000,
    };
    this.#socket = url === undefined ? io(options) : io(url, options);
  }

  open(): void {
    this.#socket.connect();
  }

  close(): void {
    this.#socket.disconnect();
  }

  /** Called with true at every (re)connection and with false at every loss, whoever caused it. */
  onConnection(handler: (up: boolean) => void): void {
    this.#socket.on('connect', () => handler(true));
    this.#socket.on('disconnect', (reason) => {
      handler(false);
      // Socket.IO itself comes back after every loss but this one. After `closed` we have disconnected ourselves.
      if (reason === 'io server disconnect') this.#socket.connect();
    });
    this.#socket.on('connect_error', () => handler(false));
  }

  on<K extends keyof Events>(event: K, handler: (message: Events[K]) => void): void {
    this.#socket.on(event as string, handler);
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
      const answer = (lost: Error | null, ack?: Ack<Requests[K]['result']>) => {
        if (lost !== null || ack === undefined) {
          const code = this.#socket.connected ? 'timeout' : 'disconnected';
          reject(new RequestError(code, `${event}: no answer`, true));
        } else if (ack.ok) {
          resolve(ack.result);
        } else {
          reject(new RequestError(ack.error.code, ack.error.message, ack.error.retryable));
        }
      };
      this.#socket.timeout(REQUEST_TIMEOUT_MS).emit(event, payload, answer);
    });
  }
}
