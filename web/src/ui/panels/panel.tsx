import type { ComponentChildren } from 'preact';
import { useApp, useController, useStrings } from '../hooks';
import { Icon } from '../icons';
import { CaptionsPanel } from './captions_panel';
import { ChatPanel } from './chat_panel';
import { PeoplePanel } from './people_panel';
import { ProcessorsPanel } from './processors_panel';

const CONTENTS = {
  captions: CaptionsPanel,
  chat: ChatPanel,
  people: PeoplePanel,
  processors: ProcessorsPanel,
};

/** The panel that is open, if any. */
export function SidePanel() {
  const panel = useApp((state) => state.panel);
  if (panel === null) return null;
  const Content = CONTENTS[panel];
  return <Content key={panel} />;
}

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
