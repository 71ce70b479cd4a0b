import type { Caption } from '../src/client';

export function caption(change: Partial<Caption>): Caption {
  return {
    kind: 'caption',
    room_id: 'room',
    participant_id: 'ada',
    track_id: 'ada-mic',
    epoch: 0,
    start_ms: 0,
    end_ms: 900,
    model: 'test@1',
    segment_id: 's1',
    rev: 0,
    text: '',
    stable_chars: 0,
    final: false,
    language: 'en',
    quality: 'standard',
    latency_ms: 500,
    ...change,
  };
}
