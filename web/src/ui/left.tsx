import type { FinalReason } from '../client';
import { LanguageSwitch } from './controls';
import { useApp, useController, useStrings } from './hooks';
import { Logo } from './icons';

/** After these, coming back at once is what most people want; after the others it is pointless. */
const CAN_REJOIN: ReadonlySet<FinalReason> = new Set(['left', 'duplicate_identity']);

export function Left({ reason }: { reason: FinalReason }) {
  const controller = useController();
  const strings = useStrings();
  const roomId = useApp((state) => state.meeting.roomId);
  const { title, text } = strings.closings[reason];
  const rejoin = reason === 'duplicate_identity' ? strings.useHere : strings.rejoin;
  return (
    <div class="left">
      <header class="lobby-head">
        <Logo wordmark />
        <LanguageSwitch />
      </header>
      <main class="left-card" tabIndex={-1}>
        <span class="chip">{roomId}</span>
        <div role="alert">
          <h1>{title}</h1>
          <p>{text}</p>
        </div>
        <div class="left-actions">
          {CAN_REJOIN.has(reason) && (
            <button type="button" class="button button-primary" onClick={() => void controller.rejoin()}>
              {rejoin}
            </button>
          )}
          <button type="button" class="button" onClick={() => void controller.toStart()}>
            {strings.backToStart}
          </button>
        </div>
      </main>
    </div>
  );
}
