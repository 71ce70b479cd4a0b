// Whose track does a processor work on, and how. Pure.

import type { FaceAuthenticity, MeetingState, ProcessorInfo, ProcessorStatus, VoiceAuthenticity } from '../client';

/** What the processor does on the person's own track; null while they send none for it. */
export function myStatus(meeting: MeetingState, processor: ProcessorInfo): ProcessorStatus | null {
  const self = meeting.participants.find((participant) => participant.participant_id === meeting.selfId);
  const own = new Set(self?.tracks.map((track) => track.track_id));
  return statusOf(meeting, processor).find((status) => own.has(status.track_id)) ?? null;
}

/**
 * Whether the person wants the processor on their own tracks: what a policy says, what it does there if that is known, else what
 * they chose, else the server's default. Not whether it runs: one that is unavailable would run again once it is back.
 */
export function isWanted(meeting: MeetingState, processor: ProcessorInfo): boolean {
  if (processor.locked !== null) return processor.locked === 'on';
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

/** Whether a processor works on a track just now: what it found before is not shown after. */
export function isOn(meeting: MeetingState, processor: string, trackId: string): boolean {
  return meeting.processorStatus.some(
    (status) => status.processor === processor && status.track_id === trackId && status.state === 'on',
  );
}

export type Evidence = VoiceAuthenticity | FaceAuthenticity;

/** What is known of the voices, or faces, of those who still have the observer on, oneself first. */
export function evidenceOf(meeting: MeetingState, processor: Evidence['kind']): { name: string; found: Evidence }[] {
  const newest = (participantId: string): Evidence | undefined =>
    processor === 'voice_authenticity' ? meeting.voices[participantId] : mostDoubtful(meeting.faces[participantId] ?? {});
  const on = new Set(
    meeting.processorStatus
      .filter((status) => status.processor === processor && status.state === 'on')
      .map((status) => status.track_id),
  );
  const isMine = ({ found }: { found: Evidence }) => Number(found.participant_id === meeting.selfId);
  return meeting.participants
    .flatMap((participant) => {
      const found = newest(participant.participant_id);
      return found !== undefined && on.has(found.track_id) ? [{ name: participant.name, found }] : [];
    })
    .sort((one, other) => isMine(other) - isMine(one));
}

const DOUBT: Record<Evidence['verdict'], number> = {
  likely_synthetic: 3,
  inconclusive: 2,
  likely_genuine: 1,
  insufficient_evidence: 0,
};

/** Of several faces before one camera: a picture on the wall must not hide what was found of the person. */
function mostDoubtful(faces: Record<string, FaceAuthenticity>): FaceAuthenticity | undefined {
  return Object.values(faces).sort((one, other) => DOUBT[other.verdict] - DOUBT[one.verdict])[0];
}

/** Whether a standing finding says that somebody's voice or face may be synthetic. */
export function isDoubted(meeting: MeetingState, participantId: string, processor: Evidence['kind']): boolean {
  return evidenceOf(meeting, processor).some(
    ({ found }) => found.participant_id === participantId && found.verdict === 'likely_synthetic',
  );
}

function statusOf(meeting: MeetingState, processor: ProcessorInfo): ProcessorStatus[] {
  return meeting.processorStatus.filter((status) => status.processor === processor.name);
}
