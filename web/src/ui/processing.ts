// Whose track does a processor work on, and how. Pure.

import type { MeetingState, ProcessorInfo, ProcessorStatus, VoiceAuthenticity } from '../client';

/** What the processor does on the person's own track; null while they send none for it. */
export function myStatus(meeting: MeetingState, processor: ProcessorInfo): ProcessorStatus | null {
  const self = meeting.participants.find((participant) => participant.participant_id === meeting.selfId);
  const own = new Set(self?.tracks.map((track) => track.track_id));
  return statusOf(meeting, processor).find((status) => own.has(status.track_id)) ?? null;
}

/**
 * Whether the person wants the processor on their own tracks: what it does there if that is known, else what they chose, else
 * the server's default. Not whether it runs: one that is unavailable would run again once it is back.
 */
export function isWanted(meeting: MeetingState, processor: ProcessorInfo): boolean {
  const mine = myStatus(meeting, processor);
  if (mine !== null && mine.state !== 'unavailable') return mine.state !== 'off';
  return meeting.choices[processor.name] ?? processor.default_on;
}

/** What it does for everybody else who has a track that it works on. */
export function othersStatus(meeting: MeetingState, processor: ProcessorInfo): { name: string; status: ProcessorStatus }[] {
  const names = new Map<string, string>();
  for (const participant of meeting.participants) {
    if (participant.participant_id === meeting.selfId) continue;
    for (const track of participant.tracks) names.set(track.track_id, participant.name);
  }
  return statusOf(meeting, processor).flatMap((status) => {
    const name = names.get(status.track_id);
    return name === undefined ? [] : [{ name, status }];
  });
}

/** What is known of the voices of those who still have the observer on, oneself first. Hosts get everybody's, others their own. */
export function voiceEvidence(meeting: MeetingState): { name: string; found: VoiceAuthenticity }[] {
  const on = new Set(
    meeting.processorStatus
      .filter((status) => status.processor === 'voice_authenticity' && status.state === 'on')
      .map((status) => status.track_id),
  );
  return meeting.participants
    .flatMap((participant) => {
      const found = meeting.voices[participant.participant_id];
      return found !== undefined && on.has(found.track_id) ? [{ name: participant.name, found }] : [];
    })
    .sort((one, other) => Number(other.found.participant_id === meeting.selfId) - Number(one.found.participant_id === meeting.selfId));
}

/** Whether a standing finding says that somebody's voice may be synthetic. */
export function isVoiceDoubted(meeting: MeetingState, participantId: string): boolean {
  return voiceEvidence(meeting).some(({ found }) => found.participant_id === participantId && found.verdict === 'likely_synthetic');
}

function statusOf(meeting: MeetingState, processor: ProcessorInfo): ProcessorStatus[] {
  return meeting.processorStatus.filter((status) => status.processor === processor.name);
}
