// Before the meeting: is the camera on, does the microphone hear, which room.

import { ROOM_PATTERN, type Device } from '../client';
import { DevicePicker, LanguageSwitch, MicrophoneLevel, Note } from './controls';
import { useApp, useController, useStrings } from './hooks';
import { Icon, Logo } from './icons';
import { Video } from './tile';

export function Lobby() {
  const strings = useStrings();
  return (
    <div class="lobby">
      <header class="lobby-head">
        <Logo wordmark />
        <LanguageSwitch />
      </header>
      <main class="lobby-main" tabIndex={-1}>
        <section class="lobby-preview" aria-label={strings.preview}>
          <Preview />
          <DeviceNotes />
        </section>
        <JoinForm />
      </main>
      <footer class="lobby-foot">{strings.tagline}</footer>
    </div>
  );
}

function Preview() {
  const strings = useStrings();
  const camera = useApp((state) => state.local.camera);
  const asking = useApp((state) => state.local.asking);
  return (
    <div class="preview">
      {camera.track === null ? (
        <p class="preview-empty">
          <Icon name="cameraOff" />
          {asking ? strings.askingDevices : strings.cameraIsOff}
        </p>
      ) : (
        <Video track={camera.track} mirrored reportAs={null} />
      )}
      <div class="preview-controls">
        <PreviewToggle device="microphone" />
        <MicrophoneLevel />
        <PreviewToggle device="camera" />
      </div>
    </div>
  );
}

function PreviewToggle({ device }: { device: Device }) {
  const controller = useController();
  const strings = useStrings();
  const { on } = useApp((state) => state.local[device]);
  const label = on ? strings[`${device}Off`] : strings[`${device}On`];
  return (
    <button
      type="button"
      class={`round ${on ? '' : 'round-off'}`}
      aria-label={label}
      title={label}
      onClick={() => void controller.toggle(device)}
    >
      <Icon name={on ? device : `${device}Off`} />
    </button>
  );
}

/** What is wrong with the devices. Both for the same reason is one thing to read, not two. */
function DeviceNotes() {
  const controller = useController();
  const strings = useStrings();
  const microphone = useApp((state) => state.local.microphone.problem);
  const camera = useApp((state) => state.local.camera.problem);
  const retry = (
    <button type="button" class="button" onClick={() => void controller.retryDevices()}>
      {strings.tryAgain}
    </button>
  );
  if (microphone === 'insecure') return <InsecureNote />;
  if (microphone === 'denied' && camera === 'denied') {
    return (
      <Note tone="warning" icon="alert" explanation={strings.bothDenied}>
        {retry}
      </Note>
    );
  }
  return (
    <>
      {microphone !== null && (
        <Note tone="warning" icon="microphoneOff" explanation={strings.deviceProblems.microphone[microphone]}>
          {retry}
        </Note>
      )}
      {camera !== null && (
        <Note tone="warning" icon="cameraOff" explanation={strings.deviceProblems.camera[camera]}>
          {retry}
        </Note>
      )}
    </>
  );
}

function InsecureNote() {
  const strings = useStrings();
  const hint = useApp((state) => state.config?.secure_hint ?? '');
  if (hint === '') return <Note tone="warning" icon="lock" explanation={strings.insecure} />;
  return (
    <Note tone="warning" icon="lock" explanation={strings.insecure}>
      {hint.startsWith('https://') ? (
        <a class="button" href={hint}>
          {strings.openSecure}
        </a>
      ) : (
        <code class="command">{hint}</code>
      )}
    </Note>
  );
}

function JoinForm() {
  const controller = useController();
  const strings = useStrings();
  const name = useApp((state) => state.name);
  const room = useApp((state) => state.room);
  const isDemo = useApp((state) => state.room !== '' && state.room === state.config?.demo_room);
  const joining = useApp((state) => state.meeting.phase === 'joining');
  const refusal = useApp((state) => state.meeting.refusal);
  const submit = (event: Event) => {
    event.preventDefault();
    controller.join();
  };
  return (
    <form class="join" onSubmit={submit}>
      <h1>{strings.lobbyTitle}</h1>
      <p class="join-hint">{isDemo ? strings.demoRoom : strings.joinWithout}</p>
      {refusal !== null && (
        <Note tone="warning" icon={refusal === 'room_locked' ? 'lock' : 'alert'} role="alert" explanation={strings.failures[refusal]} />
      )}
      <label class="field">
        <span class="field-label">{strings.yourName}</span>
        <input
          name="name"
          value={name}
          required
          maxLength={64}
          autoComplete="name"
          onInput={(event) => controller.setName(event.currentTarget.value)}
        />
      </label>
      <label class="field">
        <span class="field-label">{strings.room}</span>
        <input
          name="room"
          value={room}
          required
          maxLength={64}
          pattern={ROOM_PATTERN.source}
          title={strings.roomHint}
          autoComplete="off"
          autoCapitalize="off"
          spellcheck={false}
          onInput={(event) => controller.setRoom(event.currentTarget.value)}
        />
      </label>
      <DevicePicker device="microphone" />
      <DevicePicker device="camera" />
      <DevicePicker device="speaker" />
      <button type="submit" class="button button-primary" disabled={joining}>
        {joining ? strings.joining : strings.join}
      </button>
    </form>
  );
}
