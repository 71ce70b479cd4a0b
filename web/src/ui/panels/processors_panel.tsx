import { GUESS_STAYS_MS, type Guess, type ProcessorInfo } from '../../client';
import { useEyes, useSeen } from '../details/own_sections';
import { useApp, useController, useStrings, useUntil } from '../hooks';
import { Icon } from '../icons';
import { isOn, myStatus, othersStatus } from '../processing';
import { EvidenceList } from './evidence';
import { PanelFrame } from './panel_frame';
import { Locked, ProcessorSwitch, Why } from './processor_parts';

/** What the server does with sound and picture: what runs, what does not and why, and a switch for one's own tracks. */
export function ProcessorsPanel() {
  const strings = useStrings();
  const processors = useApp((state) => state.meeting.processors);
  return (
    <PanelFrame title={strings.processors}>
      <div class="panel-scroll" tabIndex={0} role="group" aria-label={strings.processors}>
        <p class="panel-intro">{strings.processorsIntro}</p>
        <OwnDetails />
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

/** The way to the timelines of what was found about oneself. */
function OwnDetails() {
  const controller = useController();
  const strings = useStrings();
  const participantId = useApp((state) => state.meeting.selfId);
  const name = useApp((state) => state.meeting.names[participantId] ?? '');
  return (
    <button type="button" class="button" onClick={() => controller.showDialog({ kind: 'details', participantId })}>
      <Icon name="details" />
      {strings.details.of(strings.nameOfYou(name))}
    </button>
  );
}

function Processor({ processor }: { processor: ProcessorInfo }) {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const mine = myStatus(meeting, processor);
  const state = mine?.state ?? (processor.available ? null : 'unavailable');
  const name = strings.processorNames[processor.name] ?? processor.name;
  return (
    <li class="processor">
      <div class="processor-head">
        <h3>{name}</h3>
        {state !== null && <span class={`chip state-${state}`}>{strings.states[state]}</span>}
        <ProcessorSwitch processor={processor} />
      </div>
      <p class="processor-text">{strings.processorTexts[processor.name] ?? ''}</p>
      <Locked processor={processor} />
      {state === null ? <p class="processor-why">{strings.noTrackYet}</p> : <Why processor={processor} status={mine} />}
      {processor.name === 'prosody' && <Measured />}
      {processor.name === 'faces' && <Seen />}
      {processor.name === 'eye_direction' && <Eyes />}
      {isGuess(processor.name) && <Guessed kind={processor.name} />}
      {(processor.name === 'voice_authenticity' || processor.name === 'face_authenticity') && (
        <EvidenceList processor={processor.name} />
      )}
      <Others processor={processor} />
      {processor.model !== '' && <p class="processor-model">{processor.model}</p>}
    </li>
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
  const seen = useSeen();
  return seen === '' ? null : <p class="processor-why">{seen}</p>;
}

/** Where one's own eyes look; only shown while the observer is on. */
function Eyes() {
  const { eyes, text } = useEyes();
  if (eyes === null) return null;
  return (
    <>
      <p class="processor-why">{text}</p>
      <p class="evidence-caution" lang="en">
        {eyes.known_errors}
      </p>
    </>
  );
}

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
