import type { ComponentChildren } from 'preact';
import { useController, useStrings } from '../hooks';
import { Icon } from '../icons';

/** What all panels have: a title, and a way to close them. */
export function PanelFrame({ title, children }: { title: string; children: ComponentChildren }) {
  const controller = useController();
  const strings = useStrings();
  return (
    <aside class="panel" aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
        <button type="button" class="icon-button" aria-label={strings.close} onClick={() => controller.closePanel()}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </aside>
  );
}
