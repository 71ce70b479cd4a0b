import { useApp } from '../hooks';
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
