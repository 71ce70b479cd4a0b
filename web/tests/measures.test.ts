import { describe, expect, test } from 'vitest';
import { meterPosition, rmsOf } from '../src/client/level';
import { mediaPath, restartDelayMs } from '../src/client/path';
import { qualityBetween, readTotals, type ReceptionTotals } from '../src/client/quality';
import { gridLayout } from '../src/ui/layout';

describe('quality of reception', () => {
  const totals = (change: Partial<ReceptionTotals>): ReceptionTotals => ({ received: 0, lost: 0, freezes: 0, rttMs: null, ...change });

  test('sums over tracks and takes the round trip of the path in use', () => {
    const stats = [
      { type: 'inbound-rtp', packetsReceived: 90, packetsLost: 6, freezeCount: 1 },
      { type: 'inbound-rtp', packetsReceived: 10, packetsLost: -1 },
      { type: 'candidate-pair', nominated: false, currentRoundTripTime: 9 },
      { type: 'candidate-pair', nominated: true, currentRoundTripTime: 0.042 },
      { type: 'codec' },
    ];
    expect(readTotals(stats)).toEqual({ received: 100, lost: 5, freezes: 1, rttMs: 42 });
  });

  test('is the difference between two readings', () => {
    const report = qualityBetween(totals({ received: 100, lost: 5 }), totals({ received: 190, lost: 15, freezes: 2, rttMs: 30 }));
    expect(report).toEqual({ rtt_ms: 30, loss_percent: 10, freezes: 2 });
  });

  test('says nothing if nothing was received, and counters that fall are no gain', () => {
    expect(qualityBetween(totals({ received: 5 }), totals({ received: 5 }))).toBeNull();
    expect(qualityBetween(totals({ received: 5, lost: 9 }), totals({ received: 15, lost: 2 }))?.loss_percent).toBe(0);
  });
});

describe('the path of media', () => {
  test('is connected only if every used connection is', () => {
    expect(mediaPath(['new', 'new'], false, 0)).toBe('idle');
    expect(mediaPath(['new', 'connected'], false, 0)).toBe('connected');
    expect(mediaPath(['connecting', 'connected'], false, 0)).toBe('connecting');
  });

  test('is blocked if it never came up, lost if it did', () => {
    expect(mediaPath(['failed', 'new'], false, 100)).toBe('blocked');
    expect(mediaPath(['connecting', 'new'], false, 12_000)).toBe('blocked');
    expect(mediaPath(['failed', 'connected'], true, 99_000)).toBe('lost');
    expect(mediaPath(['connecting', 'connected'], true, 99_000)).toBe('connecting');
  });

  test('restarts come ever more seldom', () => {
    expect([0, 1, 2, 9].map(restartDelayMs)).toEqual([500, 1000, 2000, 10_000]);
  });
});

test('the microphone meter spans -60 to -10 dBFS', () => {
  expect(meterPosition(0)).toBe(0);
  expect(meterPosition(10 ** (-60 / 20))).toBeCloseTo(0);
  expect(meterPosition(10 ** (-35 / 20))).toBeCloseTo(0.5);
  expect(meterPosition(1)).toBe(1);
  expect(rmsOf(Float32Array.of(1, -1, 1, -1))).toBe(1);
});

describe('the grid', () => {
  test('fits every tile into the window', () => {
    for (const [width, height, most] of [[1280, 640, 12], [390, 700, 6], [900, 300, 5]] as const) {
      for (let count = 1; count <= most; count++) {
        const { columns, tileWidth, tileHeight } = gridLayout(count, width, height, 12);
        const rows = Math.ceil(count / columns);
        expect(columns * tileWidth + (columns - 1) * 12).toBeLessThanOrEqual(width);
        expect(rows * tileHeight + (rows - 1) * 12).toBeLessThanOrEqual(height);
      }
    }
  });

  test('puts two people side by side on a desk and one above the other on a phone', () => {
    expect(gridLayout(2, 1280, 640, 12).columns).toBe(2);
    expect(gridLayout(2, 390, 700, 12).columns).toBe(1);
  });

  test('scrolls rather than making tiles too small to see', () => {
    const { columns, tileWidth } = gridLayout(60, 360, 500, 12);
    expect([columns, tileWidth]).toEqual([2, 174]);
  });
});
