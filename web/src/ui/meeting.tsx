import { ControlBar, useShortcuts } from './control_bar';
import { CopyButton, LanguageSwitch, Note } from './controls';
import { useApp, useController, useStrings } from './hooks';
import { Icon, Logo } from './icons';
import { SidePanel } from './panels/panel';
import { Stage } from './stage';

export function Meeting() {
  useShortcuts();
  const panel = useApp((state) => state.panel);
  const away = useApp((state) => state.meeting.phase === 'reconnecting');
  return (
    <div class={`meeting ${panel === null ? '' : `meeting-with-panel meeting-with-${panel}`}`}>
      <TopBar />
      <main class={`stage ${away ? 'stage-away' : ''}`} tabIndex={-1}>
        <Banners />
        <Stage />
      </main>
      <SidePanel />
      <ControlBar />
    </div>
  );
}

function TopBar() {
  const controller = useController();
  const strings = useStrings();
  const roomId = useApp((state) => state.meeting.roomId);
  const inviteUrl = useApp((state) => state.meeting.inviteUrl);
  const locked = useApp((state) => state.meeting.locked);
  return (
    <header class="topbar">
      <Logo wordmark={false} />
      <h1 class="topbar-room">{roomId}</h1>
      {locked && (
        <span class="chip">
          <Icon name="lock" />
          {strings.locked}
        </span>
      )}
      <span class="topbar-gap" />
      <CopyButton text={inviteUrl} label={strings.copyInvite} icon="link" />
      <LanguageSwitch />
      <IconButton icon="keyboard" label={strings.shortcuts} onPress={() => controller.showDialog({ kind: 'shortcuts' })} />
      <IconButton icon="settings" label={strings.settings} onPress={() => controller.showDialog({ kind: 'settings' })} />
    </header>
  );
}

function IconButton({ icon, label, onPress }: { icon: 'keyboard' | 'settings'; label: string; onPress(): void }) {
  return (
    <button type="button" class={`icon-button topbar-${icon}`} aria-label={label} title={label} onClick={onPress}>
      <Icon name={icon} />
    </button>
  );
}

/** What is wrong with the connection right now, the most fundamental first; and the sound that waits for a click. */
function Banners() {
  const controller = useController();
  const strings = useStrings();
  const phase = useApp((state) => state.meeting.phase);
  const path = useApp((state) => state.meeting.path);
  const soundBlocked = useApp((state) => state.soundBlocked);
  return (
    <div class="banners">
      {phase === 'reconnecting' && (
        <div class="banner" role="status">
          <span class="spinner" />
          <strong>{strings.reconnecting}</strong> <span>{strings.reconnectingText}</span>
        </div>
      )}
      {phase === 'inside' && path === 'lost' && (
        <div class="banner" role="status">
          <span class="spinner" />
          <strong>{strings.mediaLost}</strong>
          <button type="button" class="button" onClick={() => controller.retryMedia()}>
            {strings.tryAgain}
          </button>
        </div>
      )}
      {phase === 'inside' && path === 'blocked' && (
        <Note tone="warning" icon="alert" role="alert" explanation={strings.mediaBlocked}>
          <button type="button" class="button" onClick={() => controller.retryMedia()}>
            {strings.tryAgain}
          </button>
        </Note>
      )}
      {soundBlocked && (
        <div class="banner banner-sound" role="alert">
          <Icon name="sound" />
          <span>{strings.soundBlocked}</span>
          <button type="button" class="button button-primary" onClick={() => controller.setSoundBlocked(false)}>
            {strings.clickToHear}
          </button>
        </div>
      )}
    </div>
  );
}
