// What two connection states mean to a person. Pure.

import type { MediaPath } from './state';

/** How long ICE may take before we say that something blocks it. */
export const BLOCKED_AFTER_MS = 12_000;

/** `everConnected`: media has flowed in this meeting, so a failure is a loss and not a network that never lets it through. */
export function mediaPath(states: readonly RTCPeerConnectionState[], everConnected: boolean, waitedMs: number): MediaPath {
  const used = states.filter((state) => state !== 'new' && state !== 'closed');
  if (used.length === 0) return 'idle';
  if (used.every((state) => state === 'connected')) return 'connected';
  if (everConnected) return used.includes('failed') || used.includes('disconnected') ? 'lost' : 'connecting';
  return used.includes('failed') || waitedMs >= BLOCKED_AFTER_MS ? 'blocked' : 'connecting';
}

/** Pause before the n-th attempt (from 0) to restart ICE. */
export function restartDelayMs(attempt: number): number {
  return Math.min(10_000, 500 * 2 ** attempt);
}
