// What a model says about somebody's voice or face: how much it rests on, its words, its numbers in small print, and how often it errs.

import type { TrackInfo } from '../../client';
import { useApp, useStrings } from '../hooks';
import { ENOUGH_MS, EvidenceErrors, EvidenceItem } from '../panels/evidence';
import { Locked, ProcessorSwitch, Why } from '../panels/processor_parts';
import { evidenceOf, type Evidence } from '../processing';

interface Props {
  participantId: string;
  kind: Evidence['kind'];
  /** The microphone or camera that it is about; undefined while there is none. */
  track: TrackInfo | undefined;
}

export function EvidenceSection({ participantId, kind, track }: Props) {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const info = meeting.processors.find(({ name }) => name === kind);
  if (info === undefined) return null;
  const isSelf = participantId === meeting.selfId;
  const status = meeting.processorStatus.find((one) => one.processor === kind && one.track_id === track?.track_id) ?? null;
  const found = evidenceOf(meeting, kind).find((one) => one.found.participant_id === participantId)?.found;
  return (
    <section class="details-section">
      <header class="details-head">
        <h3>{strings.processorNames[kind] ?? kind}</h3>
        {isSelf && <ProcessorSwitch processor={info} />}
      </header>
      {found !== undefined && <Found found={found} />}
      {found === undefined && status?.state === 'on' && <p class="details-fact">{strings.details.nothingYet}</p>}
      <Locked processor={info} />
      {status?.state !== 'on' && (status === null && info.available ? <p class="processor-why">{strings.details.noTrack}</p> : <Why processor={info} status={status} others={!isSelf} />)}
    </section>
  );
}

function Found({ found }: { found: Evidence }) {
  const strings = useStrings();
  const { details } = strings;
  const numbers = [details.judgedBy(found.model), details.windows(found.windows)];
  if (found.score !== null) numbers.push(details.rawScore(found.score));
  return (
    <div class="evidence">
      <EvidenceItem found={found} title={details.ofEvidence(found.evidence_ms / 1000, ENOUGH_MS[found.kind] / 1000)} />
      <p class="processor-model">{numbers.join(' · ')}</p>
      <EvidenceErrors errors={[found.known_errors]} />
    </div>
  );
}
