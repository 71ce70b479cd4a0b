import { describe, expect, test } from 'vitest';
import { clearSession, loadSession, roomOfPath, saveSession, takeInvite, type Session } from '../src/client/session';

class MemoryStorage implements Storage {
  readonly #items = new Map<string, string>();
  get length() {
    return this.#items.size;
  }
  clear = () => this.#items.clear();
  getItem = (key: string) => this.#items.get(key) ?? null;
  key = (index: number) => [...this.#items.keys()][index] ?? null;
  removeItem = (key: string) => void this.#items.delete(key);
  setItem = (key: string, value: string) => void this.#items.set(key, value);
}

const session: Session = { roomId: 'room', name: 'Mira', sessionKey: 'k', microphoneOn: true, cameraOn: false };

describe('the session of a tab', () => {
  test('comes back for the same room only', () => {
    const storage = new MemoryStorage();
    saveSession(storage, session);
    expect(loadSession(storage, 'room')).toEqual(session);
    expect(loadSession(storage, 'other')).toBeNull();
    clearSession(storage);
    expect(loadSession(storage, 'room')).toBeNull();
  });

  test('is nothing if it cannot be read', () => {
    const storage = new MemoryStorage();
    for (const text of ['{', 'null', '{"roomId":"room"}']) {
      storage.setItem('candor.session', text);
      expect(loadSession(storage, 'room')).toBeNull();
    }
  });
});

test('only valid rooms are taken from the path', () => {
  expect(roomOfPath('/r/weekly-1')).toBe('weekly-1');
  expect(roomOfPath('/r/a/b')).toBeNull();
  expect(roomOfPath('/r/%3Cb%3E')).toBeNull();
  expect(roomOfPath('/')).toBeNull();
});

test('the token moves from the address bar to the storage of the tab, for its room', () => {
  const storage = new MemoryStorage();
  const shown: string[] = [];
  const history = { replaceState: (_data: unknown, _title: string, url: string) => void shown.push(url) } as unknown as History;
  const place = (pathname: string, search: string) => ({ pathname, search }) as Location;
  expect(takeInvite(place('/r/room', '?token=t1&x=1'), history, storage)).toEqual({ roomId: 'room', token: 't1' });
  expect(shown).toEqual(['/r/room?x=1']);
  expect(takeInvite(place('/r/room', ''), history, storage).token).toBe('t1');
  expect(takeInvite(place('/r/other', ''), history, storage).token).toBeNull();
});
