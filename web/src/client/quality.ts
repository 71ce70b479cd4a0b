// From two readings of `getStats` to the report that the server asks for. Pure functions.

import type { ReportQuality } from './protocol';

/** Counters of everything received so far, summed over all tracks. */
export interface ReceptionTotals {
  received: number;
  lost: number;
  freezes: number;
  rttMs: number | null;
}

interface InboundRtp {
  type: 'inbound-rtp';
  packetsReceived?: number;
  packetsLost?: number;
  freezeCount?: number;
}

interface CandidatePair {
  type: 'candidate-pair';
  nominated?: boolean;
  state?: string;
  currentRoundTripTime?: number;
}

/** What this module reads of an `RTCStats`; everything else in a report is skipped. */
export type Stat = InboundRtp | CandidatePair | { type: string };

const isInbound = (stat: Stat): stat is InboundRtp => stat.type === 'inbound-rtp';
const isPair = (stat: Stat): stat is CandidatePair => stat.type === 'candidate-pair';

export function readTotals(stats: Iterable<Stat>): ReceptionTotals {
  const totals: ReceptionTotals = { received: 0, lost: 0, freezes: 0, rttMs: null };
  for (const stat of stats) {
    if (isInbound(stat)) {
      totals.received += stat.packetsReceived ?? 0;
      totals.lost += stat.packetsLost ?? 0;
      totals.freezes += stat.freezeCount ?? 0;
    } else if (isPair(stat) && stat.nominated && stat.currentRoundTripTime !== undefined) {
      totals.rttMs = stat.currentRoundTripTime * 1000;
    }
  }
  return totals;
}

/**
 * What happened between two readings. `packetsLost` may fall when a late packet arrives, and all counters fall when an
 * m-line is reused for another track: a negative difference counts as nothing. Null if nothing was received or lost.
 */
export function qualityBetween(before: ReceptionTotals, after: ReceptionTotals): ReportQuality | null {
  const received = Math.max(0, after.received - before.received);
  const lost = Math.max(0, after.lost - before.lost);
  if (received + lost === 0) return null;
  return {
    rtt_ms: after.rttMs,
    loss_percent: (100 * lost) / (received + lost),
    freezes: Math.max(0, after.freezes - before.freezes),
  };
}
