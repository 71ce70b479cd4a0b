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
  const phase = useApp((state) => state.meeting.phase);
  const closeReason = useApp((state) => state.meeting.closeReason);
  const comingBack = useApp((state) => state.comingBack);
  if (phase === 'inside' || phase === 'reconnecting') return <Meeting />;
  if (comingBack) return <ComingBack />;
  if (phase === 'closed' && closeReason !== null) return <Left reason={closeReason} />;
  return <Lobby />;
}

function ComingBack() {
  const strings = useStrings();
  return (
    <main class="coming-back">
      <Logo wordmark={false} />
      <p role="status">{strings.comingBack}</p>
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
