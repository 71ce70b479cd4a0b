import { useApp, useStrings } from '../hooks';
import { evidenceOf, type Evidence } from '../processing';

/** What an answer rests on at least; the bar is full then. */
export const ENOUGH_MS = { voice_authenticity: 10_000, face_authenticity: 5_000 };

/** What models say about voices or faces: never a verdict alone, always with what it rests on and how often such models err. */
export function EvidenceList({ processor }: { processor: Evidence['kind'] }) {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const known = evidenceOf(meeting, processor);
  if (known.length === 0) return null;
  return (
    <div class="evidence">
      <ul>
        {known.map(({ name, found }) => (
          <li key={found.participant_id}>
            <EvidenceItem title={found.participant_id === meeting.selfId ? strings.nameOfYou(name) : name} found={found} />
          </li>
        ))}
      </ul>
      <EvidenceErrors errors={[...new Set(known.map(({ found }) => found.known_errors))]} />
    </div>
  );
}

export function EvidenceItem({ title, found }: { title: string; found: Evidence }) {
  const strings = useStrings();
  const amount = strings.evidenceAmount[found.kind](found.evidence_ms / 1000);
  const share = Math.min(1, found.evidence_ms / ENOUGH_MS[found.kind]);
  return (
    <div class="evidence-item">
      <span class="evidence-name">{title}</span>
      <span class="evidence-verdict">{strings.verdicts[found.verdict]}</span>
      <progress class="evidence-bar" max={1} value={share} aria-label={amount} />
      <span class="evidence-facts">
        {amount}
        {found.likelihood !== null && <> · {strings.evidenceLikelihood(found.likelihood)}</>}
        {found.reason !== '' && <> · {strings.evidenceReasons[found.reason] ?? found.reason}</>}
      </span>
    </div>
  );
}

/** What is published about the models' errors. */
export function EvidenceErrors({ errors }: { errors: string[] }) {
  const strings = useStrings();
  return (
    <>
      <p class="evidence-caution">{strings.evidenceCaution}</p>
      {errors.map((text) => (
        <p key={text} class="evidence-caution" lang="en">
          {text}
        </p>
      ))}
    </>
  );
}
