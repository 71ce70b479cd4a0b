import { useEffect } from 'preact/hooks';
import type { Panel } from './app_state';
import type { Controller } from './controller';
import { useApp, useController, useStrings } from './hooks';
import { Icon, type IconName } from './icons';

interface ControlProps {
  icon: IconName;
  /** Under the icon. */
  text: string;
  /** What pressing it does. */
  label: string;
  id?: string;
  expanded?: boolean;
  tone?: 'off' | 'danger' | 'active';
  badge?: number;
  shortcut?: string;
  className?: string;
  onPress(): void;
}

function Control(props: ControlProps) {
  const { icon, text, label, id, expanded, tone, badge = 0, className = '', onPress } = props;
  const strings = useStrings();
  const shortcut = useApp((state) => (state.shortcutsOn ? props.shortcut : undefined));
  return (
    <button
      type="button"
      id={id}
      class={`control ${tone === undefined ? '' : `control-${tone}`} ${className}`}
      aria-label={badge > 0 ? `${label}, ${strings.newMessages(badge)}` : label}
      aria-expanded={expanded}
      aria-keyshortcuts={shortcut}
      title={shortcut === undefined ? label : `${label} (${shortcut})`}
      onClick={onPress}
    >
      <span class="control-icon">
        <Icon name={icon} />
        {badge > 0 && <span class="badge">{Math.min(badge, 99)}</span>}
      </span>
      <span class="control-text">{text}</span>
    </button>
  );
}

export function ControlBar() {
  const controller = useController();
  const strings = useStrings();
  const microphone = useApp((state) => state.local.microphone.on);
  const camera = useApp((state) => state.local.camera.on);
  const sharing = useApp((state) => state.local.screen !== null);
  const canShare = navigator.mediaDevices?.getDisplayMedia !== undefined;
  return (
    <nav class="controls" aria-label={strings.meetingControls}>
      <Control
        icon={microphone ? 'microphone' : 'microphoneOff'}
        text={strings.microphone}
        label={microphone ? strings.microphoneOff : strings.microphoneOn}
        shortcut="M"
        {...(microphone ? {} : { tone: 'off' as const })}
        onPress={() => void controller.toggle('microphone')}
      />
      <Control
        icon={camera ? 'camera' : 'cameraOff'}
        text={strings.camera}
        label={camera ? strings.cameraOff : strings.cameraOn}
        shortcut="V"
        {...(camera ? {} : { tone: 'off' as const })}
        onPress={() => void controller.toggle('camera')}
      />
      {canShare && (
        <Control
          icon="screen"
          text={sharing ? strings.stopSharing : strings.shareScreen}
          label={sharing ? strings.stopSharing : strings.shareScreen}
          className="control-share"
          {...(sharing ? { tone: 'active' as const } : {})}
          onPress={() => void controller.toggleScreen()}
        />
      )}
      <span class="controls-gap" />
      <PanelControls />
      <span class="controls-gap" />
      <Control
        icon="leave"
        text={strings.leave}
        label={strings.leave}
        tone="danger"
        onPress={() => void controller.leave()}
      />
    </nav>
  );
}

function PanelControls() {
  const controller = useController();
  const strings = useStrings();
  const open = useApp((state) => state.panel);
  const unread = useApp((state) => state.unread);
  const control = (panel: Panel, badge = 0) => (
    <Control
      key={panel}
      id={`control-${panel}`}
      icon={panel}
      text={strings[panel]}
      label={strings[panel]}
      expanded={open === panel}
      badge={badge}
      {...(panel === 'captions' ? { shortcut: 'C' } : {})}
      {...(open === panel ? { tone: 'active' as const } : {})}
      onPress={() => controller.togglePanel(panel)}
    />
  );
  return (
    <>
      {control('captions')}
      {control('chat', unread)}
      {control('people')}
      {control('processors')}
    </>
  );
}

/** M, V, C and ? unless they are switched off, and Escape; not while somebody is typing or a dialog is open. */
export function useShortcuts(): void {
  const controller = useController();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const { dialog, shortcutsOn } = controller.store.state;
      if (dialog !== null) return;
      if (event.key === 'Escape') closePanel(controller);
      else if (shortcutsOn && !isTyping(event.target)) pressKey(controller, event);
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [controller]);
}

function pressKey(controller: Controller, event: KeyboardEvent): void {
  switch (event.key.toLowerCase()) {
    case 'm':
      void controller.toggle('microphone');
      break;
    case 'v':
      void controller.toggle('camera');
      break;
    case 'c':
      controller.togglePanel('captions');
      break;
    case '?':
      controller.showDialog({ kind: 'shortcuts' });
      break;
    default:
      return;
  }
  event.preventDefault();
}

/** The focus goes back to the button that opened the panel, or it would be lost with the panel. */
function closePanel(controller: Controller): void {
  const { panel } = controller.store.state;
  if (panel === null) return;
  controller.closePanel();
  document.getElementById(`control-${panel}`)?.focus();
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName);
}
