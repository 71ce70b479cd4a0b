import type { Guess, ProcessorInfo, ProcessorStatus } from '../../client';
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
      {isGuess(processor.name) && <Guessed kind={processor.name} />}
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

/** For how long a guess stands: a face changes within seconds, words are said once. */
const GUESS_STAYS_MS: Record<Guess['kind'], number> = { expression: 4000, voice_emotion: 15_000, text_emotion: 20_000 };

/** What was last guessed of one's own face, voice or words. */
function Guessed({ kind }: { kind: Guess['kind'] }) {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const guess = meeting.guesses[kind];
  const fresh = useUntil(guess === undefined ? 0 : guess.atMs + GUESS_STAYS_MS[kind]);
  if (guess === undefined || !fresh || !isOn(meeting, kind, guess.found.track_id)) return null;
  const { label, probability, known_errors: errors } = guess.found;
  return (
    <>
      <p class="processor-why">{strings.guessed(strings.emotions[label] ?? label, probability)}</p>
      <p class="evidence-caution" lang="en">
        {errors}
      </p>
    </>
  );
}

function isGuess(name: string): name is Guess['kind'] {
  return name in GUESS_STAYS_MS;
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
