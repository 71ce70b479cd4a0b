import type { VoiceAuthenticity } from '../../client';
import { useApp, useStrings } from '../hooks';
import { voiceEvidence } from '../processing';

/** Speech that an answer rests on at least; the bar is full then. */
const ENOUGH_MS = 10_000;

/** What models say about voices: never a verdict alone, always with what it rests on and how often such models err. */
export function VoiceEvidence() {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const voices = voiceEvidence(meeting);
  if (voices.length === 0) return null;
  const errors = [...new Set(voices.map(({ found }) => found.known_errors))];
  return (
    <div class="evidence">
      <ul>
        {voices.map(({ name, found }) => (
          <Voice key={found.participant_id} name={found.participant_id === meeting.selfId ? strings.nameOfYou(name) : name} found={found} />
        ))}
      </ul>
      <p class="evidence-caution">{strings.evidenceCaution}</p>
      {errors.map((text) => (
        <p key={text} class="evidence-caution" lang="en">
          {text}
        </p>
      ))}
    </div>
  );
}

function Voice({ name, found }: { name: string; found: VoiceAuthenticity }) {
  const strings = useStrings();
  const seconds = found.evidence_ms / 1000;
  const share = Math.min(1, found.evidence_ms / ENOUGH_MS);
  return (
    <li class="voice">
      <span class="voice-name">{name}</span>
      <span class="voice-verdict">{strings.verdicts[found.verdict]}</span>
      <progress class="voice-bar" max={1} value={share} aria-label={strings.evidenceSeconds(seconds)} />
      <span class="voice-facts">
        {strings.evidenceSeconds(seconds)}
        {found.likelihood !== null && <> · {strings.evidenceLikelihood(found.likelihood)}</>}
        {found.reason !== '' && <> · {strings.evidenceReasons[found.reason] ?? found.reason}</>}
      </span>
    </li>
  );
}
