// The pictures: a grid, or a shared screen with the people beside it.

import { trackOf, type ParticipantInfo } from '../client';
import { CopyButton } from './controls';
import { useApp, useSize, useStrings } from './hooks';
import { gridLayout } from './layout';
import { RemoteAudio, Tile } from './tile';

const GAP = 12;
const AUDIO_SOURCES = new Set(['microphone', 'music', 'screen_audio']);

export function Stage() {
  const participants = useApp((state) => state.meeting.participants);
  const selfId = useApp((state) => state.meeting.selfId);
  const others = participants.filter((participant) => participant.participant_id !== selfId);
  const self = participants.filter((participant) => participant.participant_id === selfId);
  const people = [...others, ...self];
  const presenters = people.filter((participant) => trackOf(participant, 'screen') !== undefined);
  return (
    <>
      {presenters.length > 0 ? <Presentation presenters={presenters} people={people} /> : <Grid people={people} />}
      {others.length === 0 && <Alone />}
      <Sound others={others} />
    </>
  );
}

function Grid({ people }: { people: ParticipantInfo[] }) {
  const strings = useStrings();
  const [ref, size] = useSize<HTMLUListElement>();
  const { tileWidth, tileHeight } = gridLayout(people.length, size.width, size.height, GAP);
  const style = { width: `${tileWidth}px`, height: `${tileHeight}px` };
  return (
    <ul class="grid" ref={ref} aria-label={strings.participants}>
      {people.map((participant) => (
        <li key={participant.participant_id} style={style}>
          <Tile participant={participant} video={trackOf(participant, 'camera')} />
        </li>
      ))}
    </ul>
  );
}

function Presentation({ presenters, people }: { presenters: ParticipantInfo[]; people: ParticipantInfo[] }) {
  const strings = useStrings();
  return (
    <div class="presentation">
      <div class="presentation-screens">
        {presenters.map((participant) => (
          <Tile key={participant.participant_id} participant={participant} video={trackOf(participant, 'screen')} />
        ))}
      </div>
      <ul class="presentation-people" aria-label={strings.participants}>
        {people.map((participant) => (
          <li key={participant.participant_id}>
            <Tile participant={participant} video={trackOf(participant, 'camera')} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function Alone() {
  const strings = useStrings();
  const inviteUrl = useApp((state) => state.meeting.inviteUrl);
  return (
    <div class="alone" role="status">
      <p>
        <strong>{strings.alone}</strong> {strings.aloneHint}
      </p>
      <CopyButton text={inviteUrl} label={strings.copyInvite} icon="link" />
    </div>
  );
}

function Sound({ others }: { others: ParticipantInfo[] }) {
  const media = useApp((state) => state.meeting.media);
  const tracks = others.flatMap((participant) => participant.tracks).filter((track) => AUDIO_SOURCES.has(track.source));
  return (
    <>
      {tracks.map(({ track_id: trackId }) => {
        const track = media[trackId];
        return track === undefined ? null : <RemoteAudio key={trackId} track={track} />;
      })}
    </>
  );
}
