// One picture of the meeting: a camera, a screen, or the initials of somebody without camera.

import { useEffect, useRef } from 'preact/hooks';
import { latestLine, trackOf, type CaptionLine, type ParticipantInfo, type TrackInfo } from '../client';
import { Avatar, hueOf } from './controls';
import { useApp, useController, useStrings, useUntil } from './hooks';
import { Icon } from './icons';
import { isDoubted, isOn } from './processing';

/** How long a finished caption stays in the picture. */
const CAPTION_STAYS_MS = 5000;
/** How long an unfinished one stays if no revision follows, as when captions stop in mid-sentence. */
const INTERIM_STAYS_MS = 12_000;

interface TileProps {
  participant: ParticipantInfo;
  /** The video track to show over the initials, if there is one. */
  video: TrackInfo | undefined;
}

export function Tile({ participant, video }: TileProps) {
  const strings = useStrings();
  const selfId = useApp((state) => state.meeting.selfId);
  const isSelf = participant.participant_id === selfId;
  const isScreen = video?.source === 'screen';
  const id = participant.participant_id;
  const local = useApp((state) => (isScreen ? state.local.screen : state.local.camera.track));
  const received = useApp((state) => (video === undefined ? undefined : state.meeting.media[video.track_id]));
  const speaking = useApp((state) => state.meeting.speakers.some((speaker) => speaker.participant_id === id));
  const captionsOn = useApp((state) => state.captionsOnTiles);
  const voiceDoubted = useApp((state) => isDoubted(state.meeting, id, 'voice_authenticity'));
  const faceDoubted = useApp((state) => isDoubted(state.meeting, id, 'face_authenticity'));
  const labelled = useApp((state) => video !== undefined && !isSelf && isOn(state.meeting, 'watermark', video.track_id));
  const track = isSelf ? local : video?.muted === false ? received : null;
  const microphone = trackOf(participant, 'microphone');
  const silent = microphone === undefined || microphone.muted;
  const name = isSelf ? strings.nameOfYou(participant.name) : participant.name;
  const screenName = isSelf ? strings.yourScreen : strings.screenOf(participant.name);
  const label = isScreen ? screenName : name;
  const marks = { 'tile-speaking': speaking && !isScreen, 'tile-screen': isScreen, 'tile-labelled': labelled };
  const classes = ['tile', `hue-${hueOf(id)}`, ...Object.entries(marks).flatMap(([mark, on]) => (on ? [mark] : []))].join(' ');
  return (
    <figure class={classes} aria-label={label}>
      {/* Behind the picture, so that there is something to see until the first frame has come. */}
      {!isScreen && <Avatar id={id} name={participant.name} />}
      {track && <Video track={track} mirrored={isSelf && !isScreen} reportAs={isSelf ? null : (video?.track_id ?? null)} />}
      {/* Nothing lies over the top of a picture: a label that the server has burned in is there. */}
      <figcaption class="tile-foot">
        {captionsOn && !isScreen && <TileCaption participantId={id} />}
        <div class="tile-row">
          <span class="tile-name">
            {silent && !isScreen && (
              <span class="tile-muted" role="img" aria-label={strings.muted}>
                <Icon name="microphoneOff" />
              </span>
            )}
            <span class="tile-name-text">{label}</span>
            {participant.bot && <span class="chip chip-on-picture">{strings.bot}</span>}
            {voiceDoubted && !isScreen && <Doubt participantId={id} text={strings.voiceMayBeSynthetic} />}
            {faceDoubted && !isScreen && <Doubt participantId={id} text={strings.faceMayBeSynthetic} />}
            {speaking && !isScreen && <span class="visually-hidden">{strings.speaking}</span>}
            {!isScreen && <DetailsButton participantId={id} name={participant.name} />}
          </span>
          {!isScreen && <Quality participantId={id} />}
          {captionsOn && !isScreen && <TileCaptionQuality participantId={id} />}
        </div>
      </figcaption>
    </figure>
  );
}

/** A quiet word, and the way to what it rests on. */
function Doubt({ participantId, text }: { participantId: string; text: string }) {
  const controller = useController();
  return (
    <button
      type="button"
      class="chip chip-on-picture chip-button"
      onClick={() => controller.showDialog({ kind: 'details', participantId })}
    >
      {text}
    </button>
  );
}

function DetailsButton({ participantId, name }: { participantId: string; name: string }) {
  const controller = useController();
  const strings = useStrings();
  const label = strings.details.of(name);
  return (
    <button
      type="button"
      class="tile-details"
      aria-label={label}
      title={label}
      onClick={() => controller.showDialog({ kind: 'details', participantId })}
    >
      <Icon name="details" />
    </button>
  );
}

interface VideoProps {
  track: MediaStreamTrack;
  mirrored: boolean;
  /** The track id under which to report the size; null for one's own picture. */
  reportAs: string | null;
}

export function Video({ track, mirrored, reportAs }: VideoProps) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = new MediaStream([track]);
  }, [track]);
  useReportedSize(element, reportAs);
  return <video ref={element} class={mirrored ? 'mirrored' : ''} autoplay playsInline muted />;
}

/** Tell the server how large the picture is shown, so that it sends no more than can be seen. */
function useReportedSize(element: { current: HTMLVideoElement | null }, trackId: string | null): void {
  const controller = useController();
  useEffect(() => {
    const video = element.current;
    if (video === null || trackId === null) return undefined;
    let onScreen = true;
    const report = () => {
      const visible = onScreen && document.visibilityState === 'visible';
      const scale = visible ? window.devicePixelRatio : 0;
      controller.showTile(trackId, Math.round(video.clientWidth * scale), Math.round(video.clientHeight * scale));
    };
    const size = new ResizeObserver(report);
    const place = new IntersectionObserver((entries) => {
      onScreen = entries.at(-1)?.isIntersecting ?? true; // out and in again may come together: the last one holds
      report();
    });
    size.observe(video);
    place.observe(video);
    document.addEventListener('visibilitychange', report);
    return () => {
      size.disconnect();
      place.disconnect();
      document.removeEventListener('visibilitychange', report);
      controller.forgetTile(trackId);
    };
  }, [trackId]);
}

function Quality({ participantId }: { participantId: string }) {
  const strings = useStrings();
  const score = useApp((state) => state.meeting.quality[participantId]);
  if (score === undefined) return null;
  return (
    <span class={`quality quality-${score}`} role="img" aria-label={strings.qualityOf[score]} title={strings.qualityOf[score]}>
      <i />
      <i />
      <i />
    </span>
  );
}

/** What the participant says or has just said; null after a few seconds of silence. */
function useCurrentLine(participantId: string): CaptionLine | null {
  const line = useApp((state) => latestLine(state.meeting.captions, participantId));
  const staysMs = line?.final === true ? CAPTION_STAYS_MS : INTERIM_STAYS_MS;
  const visible = useUntil(line === null ? 0 : line.receivedAtMs + staysMs);
  return visible ? line : null;
}

function TileCaption({ participantId }: { participantId: string }) {
  const line = useCurrentLine(participantId);
  if (line === null) return null;
  return (
    <p class="tile-caption" lang={line.language}>
      <span class="tile-caption-words">
        <span>
          <CaptionText line={line} />
        </span>
      </span>
    </p>
  );
}

/** Beside the name, not behind the words: a long caption in a small tile would push it out of sight. */
function TileCaptionQuality({ participantId }: { participantId: string }) {
  const line = useCurrentLine(participantId);
  return line === null ? null : <CaptionQuality line={line} />;
}

/** The words; what may still change is dimmed. */
export function CaptionText({ line }: { line: CaptionLine }) {
  return (
    <>
      <span class="caption-stable">{line.stable}</span>
      <span class="caption-interim">{line.interim}</span>
    </>
  );
}

/** An honest label where the words come from a model that is only good for tests. */
export function CaptionQuality({ line }: { line: CaptionLine }) {
  const strings = useStrings();
  if (line.quality !== 'test') return null;
  return (
    <span class="chip chip-test" title={strings.testQualityHint}>
      {strings.testQuality}
    </span>
  );
}

/** The sound of one remote track. Lives apart from the tiles, so that hiding a picture never silences a voice. */
export function RemoteAudio({ track }: { track: MediaStreamTrack }) {
  const controller = useController();
  const blocked = useApp((state) => state.soundBlocked);
  const speakerId = useApp((state) => state.local.speakerId);
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    if (element.current !== null) element.current.srcObject = new MediaStream([track]);
  }, [track]);
  useEffect(() => {
    if (blocked) return;
    element.current?.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') controller.setSoundBlocked(true);
    });
  }, [track, blocked]);
  useEffect(() => {
    const audio = element.current;
    // Not in every browser; the picker is not shown there.
    if (audio !== null && 'setSinkId' in audio) audio.setSinkId(speakerId).catch(() => undefined);
  }, [speakerId]);
  return <audio ref={element} />;
}
