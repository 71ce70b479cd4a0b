import type { ProcessorInfo, ProcessorStatus } from '../../client';
import { CopyButton, Switch } from '../controls';
import { useApp, useController, useStrings, useUntil } from '../hooks';
import { isOn, isWanted, myStatus, othersStatus } from '../processing';
import { EvidenceList } from './evidence';
import { PanelFrame } from './panel';

/** What the server does with sound and picture: what runs, what does not and why, and a switch for one's own tracks. */
export function ProcessorsPanel() {
  const strings = useStrings();
  const processors = useApp((state) => state.meeting.processors);
  return (
    <PanelFrame title={strings.processors}>
      <div class="panel-scroll" tabIndex={0} role="group" aria-label={strings.processors}>
        <p class="panel-intro">{strings.processorsIntro}</p>
        {processors.length === 0 && <p class="empty">{strings.processorsNone}</p>}
        <ul class="processors">
          {processors.map((processor) => (
            <Processor key={processor.name} processor={processor} />
          ))}
        </ul>
      </div>
    </PanelFrame>
  );
}

function Processor({ processor }: { processor: ProcessorInfo }) {
  const controller = useController();
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const mine = myStatus(meeting, processor);
  const state = mine?.state ?? (processor.available ? null : 'unavailable');
  const name = strings.processorNames[processor.name] ?? processor.name;
  const wanted = isWanted(meeting, processor);
  return (
    <li class="processor">
      <div class="processor-head">
        <h3>{name}</h3>
        {state !== null && <span class={`chip state-${state}`}>{strings.states[state]}</span>}
        <Switch
          label={name}
          checked={wanted}
          // Nobody has to wait for a processor to be told no.
          disabled={processor.locked !== null || (!wanted && !processor.available)}
          onChange={(on) => void controller.setProcessor(processor.name, on)}
        />
      </div>
      <p class="processor-text">{strings.processorTexts[processor.name] ?? ''}</p>
      {processor.locked !== null && (
        <p class="processor-why">
          {strings.lockedFor[processor.locked]}{' '}
          <span class="reason">{strings.lockedBy[processor.locked_by] ?? processor.locked_by}</span>
        </p>
      )}
      {state === null ? <p class="processor-why">{strings.noTrackYet}</p> : <Why processor={processor} status={mine} />}
      {processor.name === 'prosody' && <Measured />}
      {processor.name === 'faces' && <Seen />}
      {processor.name === 'expression' && <Shown />}
      {(processor.name === 'voice_authenticity' || processor.name === 'face_authenticity') && (
        <EvidenceList processor={processor.name} />
      )}
      <Others processor={processor} />
      {processor.model !== '' && <p class="processor-model">{processor.model}</p>}
    </li>
  );
}

function Why({ processor, status }: { processor: ProcessorInfo; status: ProcessorStatus | null }) {
  const strings = useStrings();
  const state = status?.state ?? 'unavailable';
  const said = status?.reason || processor.reason;
  const reason = strings.reasons[said] ?? said;
  const text = strings.stateTexts[state];
  return (
    <>
      {(text !== '' || reason !== '') && (
        <p class="processor-why">
          {text} {reason !== '' && <span class="reason">{reason}</span>}
        </p>
      )}
      {!processor.available && processor.command !== '' && (
        <div class="fix">
          <span>{strings.runThis}</span>
          <code class="command">{processor.command}</code>
          <CopyButton text={processor.command} label={strings.copy} icon="copy" />
        </div>
      )}
    </>
  );
}

/** The last finding about one's own voice; nobody else's is ever sent to this page. */
function Measured() {
  const strings = useStrings();
  const mine = useApp((state) => state.meeting.prosody[state.meeting.selfId]);
  if (mine === undefined) return null;
  const parts = [strings.prosodyLevel(mine.level_dbfs)];
  if (mine.pitch_hz !== null) parts.push(strings.prosodyPitch(mine.pitch_hz));
  if (mine.syllables_per_s !== null) parts.push(strings.prosodyRate(mine.syllables_per_s));
  return (
    <p class="processor-why">
      {strings.lastMeasured}: {parts.join(' · ')}
    </p>
  );
}

/** Who is before one's own camera; only shown while the observer is on. */
function Seen() {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  if (meeting.seen === null || !isOn(meeting, 'faces', meeting.seen.track_id)) return null;
  const { faces, facing_share: facing } = meeting.seen;
  const parts = [strings.facesSeen(faces.length)];
  if (facing !== null) parts.push(strings.facingShare(facing));
  return <p class="processor-why">{parts.join(' · ')}</p>;
}

/** A face that has turned away or left shows nothing any more. */
const EXPRESSION_STAYS_MS = 4000;

/** What one's own face showed last. */
function Shown() {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const fresh = useUntil(meeting.expression === null ? 0 : meeting.expression.atMs + EXPRESSION_STAYS_MS);
  if (meeting.expression === null || !fresh || !isOn(meeting, 'expression', meeting.expression.found.track_id)) return null;
  const shown = meeting.expression.found;
  return (
    <>
      <p class="processor-why">{strings.expressionShown(strings.expressions[shown.label] ?? shown.label, shown.probability)}</p>
      <p class="evidence-caution" lang="en">
        {shown.known_errors}
      </p>
    </>
  );
}

function Others({ processor }: { processor: ProcessorInfo }) {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const others = othersStatus(meeting, processor);
  if (others.length === 0) return null;
  return (
    <p class="processor-others">
      <span>{strings.othersHave}:</span>
      {others.map(({ name, status }) => (
        <span key={status.track_id} class="processor-other" title={strings.reasons[status.reason] ?? status.reason}>
          <span>{name}</span>
          <span class={`state-dot state-${status.state}`} />
          <span>{strings.states[status.state]}</span>
        </span>
      ))}
    </p>
  );
}
