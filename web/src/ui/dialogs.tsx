import { DevicePicker, LanguageSwitch, MicrophoneLevel, Switch } from './controls';
import { Details } from './details/drawer';
import { Frame } from './frame';
import { useApp, useController, useStrings } from './hooks';

/** The dialog that is open, if any. */
export function Dialogs() {
  const dialog = useApp((state) => state.dialog);
  switch (dialog?.kind) {
    case 'settings':
      return <Settings />;
    case 'shortcuts':
      return <Shortcuts />;
    case 'remove':
      return <RemoveDialog participantId={dialog.participantId} name={dialog.name} />;
    case 'end':
      return <EndDialog />;
    case 'details':
      return <Details participantId={dialog.participantId} />;
    case undefined:
      return null;
  }
}

function Settings() {
  const strings = useStrings();
  return (
    <Frame title={strings.settings}>
      <div class="dialog-body">
        <DevicePicker device="microphone" />
        <MicrophoneLevel />
        <DevicePicker device="camera" />
        <DevicePicker device="speaker" />
        <div class="field">
          <span class="field-label">{strings.language}</span>
          <LanguageSwitch />
        </div>
      </div>
    </Frame>
  );
}

function Shortcuts() {
  const controller = useController();
  const strings = useStrings();
  const on = useApp((state) => state.shortcutsOn);
  return (
    <Frame title={strings.shortcuts}>
      <dl class="shortcuts">
        {Object.entries(strings.shortcutTexts).map(([key, text]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <div class="panel-option">
        <span>
          {strings.shortcutsOn}
          <small>{strings.shortcutsOnHint}</small>
        </span>
        <Switch label={strings.shortcutsOn} checked={on} onChange={(next) => controller.setShortcutsOn(next)} />
      </div>
    </Frame>
  );
}

function RemoveDialog({ participantId, name }: { participantId: string; name: string }) {
  const controller = useController();
  const strings = useStrings();
  const remove = () => void controller.remove(participantId);
  return <Ask title={strings.removeAsk(name)} text={strings.removeText} action={strings.remove} onConfirm={remove} />;
}

function EndDialog() {
  const controller = useController();
  const strings = useStrings();
  const end = () => void controller.end();
  return <Ask title={strings.endAsk} text={strings.endText} action={strings.endMeeting} onConfirm={end} />;
}

interface AskProps {
  title: string;
  text: string;
  action: string;
  onConfirm(): void;
}

function Ask({ title, text, action, onConfirm }: AskProps) {
  const controller = useController();
  const strings = useStrings();
  return (
    <Frame title={title}>
      <p class="dialog-text">{text}</p>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => controller.showDialog(null)}>
          {strings.cancel}
        </button>
        <button type="button" class="button button-danger" onClick={onConfirm}>
          {action}
        </button>
      </div>
    </Frame>
  );
}
