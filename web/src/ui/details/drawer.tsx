// What was found about one person: about oneself all of it, about others what everybody, or a host, may know.

import { shareOf, trackOf, type ParticipantInfo } from '../../client';
import { Avatar } from '../controls';
import { Frame } from '../frame';
import { useApp, useNow, useStrings } from '../hooks';
import { EvidenceSection } from './evidence_section';
import { EyesSection, FacesSection, GuessSection, SpeechSection } from './own_sections';

export function Details({ participantId }: { participantId: string }) {
  const strings = useStrings();
  const participant = useApp((state) => state.meeting.participants.find((one) => one.participant_id === participantId));
  const isSelf = useApp((state) => state.meeting.selfId === participantId);
  const isHost = useApp((state) => state.meeting.isHost);
  const name = useApp((state) => state.meeting.names[participantId] ?? '–');
  const { details } = strings;
  const shown = isSelf ? strings.nameOfYou(name) : name;
  return (
    <Frame title={details.of(shown)} look="drawer" mark={<Avatar id={participantId} name={name} />}>
      <div class="details" tabIndex={0} role="group" aria-label={details.of(shown)}>
        <p class="details-intro">{isSelf ? details.intro : isHost ? details.introHost(name) : details.introGuest(name)}</p>
        <Talking participantId={participantId} />
        {participant !== undefined && isSelf && <Own />}
        {participant !== undefined && (isSelf || isHost) && <Authenticity participant={participant} />}
      </div>
    </Frame>
  );
}

function Talking({ participantId }: { participantId: string }) {
  const strings = useStrings();
  const speech = useApp((state) => state.meeting.speech);
  const { spokenMs, share } = shareOf(speech, participantId, useNow());
  const text =
    share === null ? strings.details.nobodyTalked : strings.details.talked(share, strings.details.duration(spokenMs / 1000));
  return (
    <section class="details-section">
      <h3>{strings.details.talking}</h3>
      <progress class="details-bar" max={1} value={share ?? 0} aria-label={text} />
      <p class="details-fact">{text}</p>
    </section>
  );
}

function Own() {
  return (
    <>
      <SpeechSection />
      <GuessSection kind="text_emotion" />
      <GuessSection kind="voice_emotion" />
      <GuessSection kind="expression" />
      <FacesSection />
      <EyesSection />
    </>
  );
}

function Authenticity({ participant }: { participant: ParticipantInfo }) {
  const { participant_id: id } = participant;
  return (
    <>
      <EvidenceSection participantId={id} kind="voice_authenticity" track={trackOf(participant, 'microphone')} />
      <EvidenceSection participantId={id} kind="face_authenticity" track={trackOf(participant, 'camera')} />
    </>
  );
}
