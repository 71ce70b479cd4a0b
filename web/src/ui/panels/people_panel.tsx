import { trackOf, type ParticipantInfo } from '../../client';
import { Avatar, CopyButton, Switch } from '../controls';
import { useApp, useController, useStrings } from '../hooks';
import { Icon } from '../icons';
import { PanelFrame } from './panel_frame';

export function PeoplePanel() {
  const strings = useStrings();
  const participants = useApp((state) => state.meeting.participants);
  const inviteUrl = useApp((state) => state.meeting.inviteUrl);
  const isHost = useApp((state) => state.meeting.isHost);
  return (
    <PanelFrame title={`${strings.people} (${participants.length})`}>
      <div class="panel-scroll" tabIndex={0} role="group" aria-label={strings.participants}>
        <ul class="people">
          {participants.map((participant) => (
            <Person key={participant.participant_id} participant={participant} />
          ))}
        </ul>
      </div>
      <div class="panel-foot">
        <CopyButton text={inviteUrl} label={strings.copyInvite} icon="link" />
        {isHost && <HostTools />}
      </div>
    </PanelFrame>
  );
}

function Person({ participant }: { participant: ParticipantInfo }) {
  const strings = useStrings();
  const selfId = useApp((state) => state.meeting.selfId);
  const isHost = useApp((state) => state.meeting.isHost);
  const isSelf = participant.participant_id === selfId;
  const microphone = trackOf(participant, 'microphone');
  const silent = microphone === undefined || microphone.muted;
  return (
    <li class="person">
      <Avatar id={participant.participant_id} name={participant.name} />
      <span class="person-name">{isSelf ? strings.nameOfYou(participant.name) : participant.name}</span>
      {participant.host && <span class="chip">{strings.host}</span>}
      {participant.bot && <span class="chip">{strings.bot}</span>}
      <span class="person-side">
        {silent ? (
          <span class="person-muted" role="img" aria-label={strings.muted}>
            <Icon name="microphoneOff" />
          </span>
        ) : (
          isHost && !isSelf && <MuteButton name={participant.name} trackId={microphone.track_id} />
        )}
        <DetailsButton participant={participant} />
        {isHost && !isSelf && <RemoveButton participant={participant} />}
      </span>
    </li>
  );
}

function MuteButton({ name, trackId }: { name: string; trackId: string }) {
  const controller = useController();
  const strings = useStrings();
  const label = strings.muteName(name);
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={() => void controller.mute(trackId)}>
      <Icon name="microphone" />
    </button>
  );
}

function DetailsButton({ participant }: { participant: ParticipantInfo }) {
  const controller = useController();
  const strings = useStrings();
  const label = strings.details.of(participant.name);
  const open = () => controller.showDialog({ kind: 'details', participantId: participant.participant_id });
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={open}>
      <Icon name="details" />
    </button>
  );
}

function RemoveButton({ participant }: { participant: ParticipantInfo }) {
  const controller = useController();
  const strings = useStrings();
  const label = strings.removeName(participant.name);
  const { participant_id: participantId, name } = participant;
  const ask = () => controller.showDialog({ kind: 'remove', participantId, name });
  return (
    <button type="button" class="icon-button icon-button-danger" aria-label={label} title={label} onClick={ask}>
      <Icon name="close" />
    </button>
  );
}

function HostTools() {
  const controller = useController();
  const strings = useStrings();
  const locked = useApp((state) => state.meeting.locked);
  return (
    <section class="host-tools" aria-label={strings.hostTools}>
      <div class="panel-option">
        <span>
          {strings.lockRoom}
          <small>{strings.lockHint}</small>
        </span>
        <Switch label={strings.lockRoom} checked={locked} onChange={(on) => void controller.setLocked(on)} />
      </div>
      <button type="button" class="button button-danger-quiet" onClick={() => controller.showDialog({ kind: 'end' })}>
        {strings.endMeeting}
      </button>
    </section>
  );
}
