// What is found about oneself, and nobody else on this page: each with its switch, and with the reason if it does not run.

import type { ComponentChildren } from 'preact';
import { bands, stretches, type Guess } from '../../client';
import { useApp, useNow, useStrings, useUntil } from '../hooks';
import { Locked, ProcessorSwitch, Why } from '../panels/processor_parts';
import { isOn, myStatus } from '../processing';
import { BandChart, LineChart, TimeAxis, type Span } from './charts';

interface OwnSectionProps {
  processor: string;
  /** Nothing if there is nothing to show. */
  children: ComponentChildren;
}

/** Absent where the server has no such processor. What it found stands above why it does not run just now, unless it is off. */
function OwnSection({ processor, children }: OwnSectionProps) {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const info = meeting.processors.find(({ name }) => name === processor);
  if (info === undefined) return null;
  const status = myStatus(meeting, info);
  const on = status?.state === 'on';
  const empty = children === null;
  return (
    <section class="details-section">
      <header class="details-head">
        <h3>{strings.processorNames[processor] ?? processor}</h3>
        <ProcessorSwitch processor={info} />
      </header>
      {status !== null && status.state !== 'off' && children}
      {on && empty && <p class="details-fact">{strings.details.nothingYet}</p>}
      <Locked processor={info} />
      {!on && (status !== null || !info.available ? <Why processor={info} status={status} /> : <p class="processor-why">{strings.noTrackYet}</p>)}
      {on && info.model !== '' && <p class="processor-model">{info.model}</p>}
    </section>
  );
}

export function SpeechSection() {
  const strings = useStrings();
  const { history, selfId } = useApp((state) => state.meeting);
  const span = useSpan();
  const pitch = stretches(history, selfId, 'pitchHz', span.fromMs);
  const rate = stretches(history, selfId, 'syllablesPerS', span.fromMs);
  return (
    <OwnSection processor="prosody">
      {pitch.length + rate.length === 0 ? null : (
        <>
          <LineChart {...span} title={strings.details.pitch} stretches={pitch} least={40} format={strings.prosodyPitch} />
          <LineChart {...span} title={strings.details.rate} stretches={rate} least={2} format={strings.prosodyRate} />
          <TimeAxis {...span} />
        </>
      )}
    </OwnSection>
  );
}

export function GuessSection({ kind }: { kind: Guess['kind'] }) {
  const strings = useStrings();
  const { history, selfId, guessErrors } = useApp((state) => state.meeting);
  const span = useSpan();
  const found = bands(history, selfId, kind, span.fromMs, span.toMs);
  const errors = guessErrors[kind] ?? '';
  return (
    <OwnSection processor={kind}>
      {found.length === 0 ? null : (
        <>
          <BandChart {...span} title={strings.processorNames[kind] ?? kind} bands={found} />
          {errors !== '' && (
            <p class="evidence-caution" lang="en">
              {errors}
            </p>
          )}
        </>
      )}
    </OwnSection>
  );
}

export function FacesSection() {
  const seen = useSeen();
  return <OwnSection processor="faces">{seen === '' ? null : <p class="details-fact">{seen}</p>}</OwnSection>;
}

export function EyesSection() {
  const { eyes, text } = useEyes();
  return (
    <OwnSection processor="eye_direction">
      {eyes === null ? null : (
        <>
          <p class="details-fact">{text}</p>
          <p class="evidence-caution" lang="en">
            {eyes.known_errors}
          </p>
        </>
      )}
    </OwnSection>
  );
}

/** Who is before one's own camera, in words; empty unless the observer is on and has seen something. */
export function useSeen(): string {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  if (meeting.seen === null || !isOn(meeting, 'faces', meeting.seen.track_id)) return '';
  const { faces, facing_share: facing } = meeting.seen;
  const parts = [strings.facesSeen(faces.length)];
  if (facing !== null) parts.push(strings.facingShare(facing));
  return parts.join(' · ');
}

/** Eyes that are not seen any more are not told of either. */
const EYES_STAY_MS = 4000;

/** Where one's own eyes look; null unless the observer is on and has just seen them. */
export function useEyes() {
  const strings = useStrings();
  const meeting = useApp((state) => state.meeting);
  const eyes = meeting.eyes?.found ?? null;
  const fresh = useUntil(meeting.eyes === null ? 0 : meeting.eyes.atMs + EYES_STAY_MS);
  if (eyes === null || !fresh || !isOn(meeting, 'eye_direction', eyes.track_id)) return { eyes: null, text: '' };
  const parts = [strings.eyesAre[eyes.eyes]];
  if (eyes.eyes === 'open' && eyes.at_screen !== null) parts.push(strings.eyesAt(eyes.at_screen));
  if (eyes.screen_share !== null) parts.push(strings.screenShare(eyes.screen_share));
  return { eyes, text: parts.join(' · ') };
}

const SPANS_MS = [2, 5, 10].map((minutes) => minutes * 60_000);

/** The last 2, 5 or 10 minutes: the shortest that holds all that is known, so that a beginning is not squeezed into a corner. */
function useSpan(): Span {
  const nowMs = useNow();
  const oldestMs = useApp((state) => state.meeting.history[0]?.atMs ?? Infinity);
  const spanMs = SPANS_MS.find((ms) => nowMs - oldestMs <= ms) ?? Math.max(...SPANS_MS);
  return { fromMs: nowMs - spanMs, toMs: nowMs };
}
