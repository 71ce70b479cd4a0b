import { useApp, useController, useStrings } from './hooks';
import { Icon } from './icons';

/** What has just happened, for a few seconds. */
export function Notices() {
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
