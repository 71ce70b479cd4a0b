// What this tab remembers across a page refresh, and what an invite link says. Only `sessionStorage`: it ends with the tab.

const SESSION_KEY = 'candor.session';
const TOKEN_KEY = 'candor.token.';
export const ROOM_PATTERN = /^[A-Za-z0-9_\-]{1,64}$/;

/** Enough to come back after a page refresh as the same participant. */
export interface Session {
  roomId: string;
  name: string;
  sessionKey: string;
  microphoneOn: boolean;
  cameraOn: boolean;
}

export function saveSession(storage: Storage, session: Session): void {
  storage.setItem(SESSION_KEY, JSON.stringify(session));
}

export function clearSession(storage: Storage): void {
  storage.removeItem(SESSION_KEY);
}

/** The session of `roomId`, or null if there is none or it cannot be read. */
export function loadSession(storage: Storage, roomId: string): Session | null {
  const text = storage.getItem(SESSION_KEY);
  if (text === null) return null;
  try {
    const session = JSON.parse(text) as Partial<Session>;
    const complete = typeof session.sessionKey === 'string' && typeof session.name === 'string';
    if (!complete || session.roomId !== roomId) return null;
    return session as Session;
  } catch {
    return null;
  }
}

/** The room of `/r/ROOM`, or null. */
export function roomOfPath(path: string): string | null {
  const room = /^\/r\/([^/]+)\/?$/.exec(path)?.[1];
  return room !== undefined && ROOM_PATTERN.test(room) ? room : null;
}

/**
 * Move `?token=` from the address bar to the tab's storage: a token in the address bar ends up in histories and
 * screenshots. Returns the room and its token, both null where there is none.
 */
export function takeInvite(place: Location, history: History, storage: Storage): { roomId: string | null; token: string | null } {
  const roomId = roomOfPath(place.pathname);
  const query = new URLSearchParams(place.search);
  const token = query.get('token');
  if (token !== null) {
    query.delete('token');
    const rest = query.size > 0 ? `?${query.toString()}` : '';
    history.replaceState(null, '', `${place.pathname}${rest}`);
    if (roomId !== null) storage.setItem(TOKEN_KEY + roomId, token);
  }
  return { roomId, token: roomId === null ? null : tokenOf(storage, roomId) };
}

export function tokenOf(storage: Storage, roomId: string): string | null {
  return storage.getItem(TOKEN_KEY + roomId);
}
