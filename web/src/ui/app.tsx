import { useEffect, useRef } from 'preact/hooks';
import type { AppState } from './app_state';
import type { Controller } from './controller';
import { Dialogs } from './dialogs';
import { ControllerContext, useApp, useController, useStrings } from './hooks';
import { Logo } from './icons';
import { Left } from './left';
import { Lobby } from './lobby';
import { Meeting } from './meeting';
import { Notices } from './notices';

export function App({ controller }: { controller: Controller }) {
  return (
    <ControllerContext.Provider value={controller}>
      <Screen />
      <Dialogs />
      <PageNotices />
    </ControllerContext.Provider>
  );
}

/** A dialog shows them itself: it lies over all of the page, and what lies under it is neither seen nor read out. */
function PageNotices() {
  return useApp((state) => state.dialog) === null ? <Notices /> : null;
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
