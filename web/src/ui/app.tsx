import { useEffect, useRef } from 'preact/hooks';
import type { AppState } from './app_state';
import type { Controller } from './controller';
import { Dialogs } from './dialogs';
import { ControllerContext, useApp, useController, useStrings } from './hooks';
import { Icon, Logo } from './icons';
import { Left } from './left';
import { Lobby } from './lobby';
import { Meeting } from './meeting';

export function App({ controller }: { controller: Controller }) {
  return (
    <ControllerContext.Provider value={controller}>
      <Screen />
      <Dialogs />
      <Notices />
    </ControllerContext.Provider>
  );
}

function Screen() {
  const screen = useApp(screenOf);
  const closeReason = useApp((state) => state.meeting.closeReason);
  useAnnouncedScreen(screen);
  if (screen === 'meeting') return <Meeting />;
  if (screen === 'coming_back') return <ComingBack />;
  if (closeReason !== null) return <Left reason={closeReason} />;
  return <Lobby />;
}

type ScreenName = 'lobby' | 'meeting' | 'coming_back' | 'left';

function screenOf({ meeting, comingBack }: AppState): ScreenName {
  if (meeting.phase === 'inside' || meeting.phase === 'reconnecting') return 'meeting';
  if (comingBack) return 'coming_back';
  return meeting.closeReason === null ? 'lobby' : 'left';
}

/** A new screen has a title, and the focus, which was on something that is gone now. */
function useAnnouncedScreen(screen: ScreenName): void {
  const strings = useStrings();
  const roomId = useApp((state) => state.meeting.roomId);
  const closeReason = useApp((state) => state.meeting.closeReason);
  const titles = {
    lobby: '',
    meeting: roomId,
    coming_back: strings.comingBack,
    left: closeReason === null ? '' : strings.closings[closeReason].title,
  };
  const title = titles[screen];
  useEffect(() => {
    document.title = title === '' ? 'Candor' : `${title} – Candor`;
  }, [title]);
  const before = useRef(screen);
  useEffect(() => {
    if (before.current !== screen) document.querySelector<HTMLElement>('main')?.focus();
    before.current = screen;
  }, [screen]);
}

function ComingBack() {
  const controller = useController();
  const strings = useStrings();
  return (
    <main class="coming-back" tabIndex={-1}>
      <Logo wordmark={false} />
      <p role="status">{strings.comingBack}</p>
      <button type="button" class="button" onClick={() => controller.cancelComingBack()}>
        {strings.cancel}
      </button>
    </main>
  );
}

function Notices() {
  const controller = useController();
  const strings = useStrings();
  const notices = useApp((state) => state.notices);
  return (
    <div class="notices" role="status">
      {notices.map(({ id, text, tone }) => (
        <div key={id} class={`notice notice-${tone}`}>
          <span>{text}</span>
          <button type="button" class="icon-button" aria-label={strings.dismiss} onClick={() => controller.dismiss(id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
