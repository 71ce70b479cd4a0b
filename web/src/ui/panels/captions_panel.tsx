import type { CaptionLine } from '../../client';
import { Avatar, Switch } from '../controls';
import { useApp, useController, useStrings } from '../hooks';
import { CaptionQuality, CaptionText } from '../tile';
import { PanelFrame } from './panel_frame';
import { useStickToEnd } from './scroll';

/**
 * What was said, and below it what is being said. Only finished lines are in the live region: a screen reader would otherwise
 * read every revision of every sentence.
 */
export function CaptionsPanel() {
  const controller = useController();
  const strings = useStrings();
  const captions = useApp((state) => state.meeting.captions);
  const onTiles = useApp((state) => state.captionsOnTiles);
  const list = useStickToEnd<HTMLDivElement>(captions);
  const finished = captions.filter((line) => line.final);
  const growing = captions.filter((line) => !line.final);
  return (
    <PanelFrame title={strings.captions}>
      <div class="panel-option">
        <span>{strings.captionsOnTiles}</span>
        <Switch label={strings.captionsOnTiles} checked={onTiles} onChange={(on) => controller.setCaptionsOnTiles(on)} />
      </div>
      <div class="panel-scroll" ref={list} tabIndex={0} role="group" aria-label={strings.captions}>
        {captions.length === 0 && <CaptionsEmpty />}
        <div role="log" aria-live="polite" aria-label={strings.captions}>
          <ol class="lines">
            {finished.map((line) => (
              <Line key={line.segmentId} line={line} />
            ))}
          </ol>
        </div>
        <ol class="lines lines-growing" aria-live="off" aria-label={strings.speakingNow}>
          {growing.map((line) => (
            <Line key={line.segmentId} line={line} />
          ))}
        </ol>
      </div>
    </PanelFrame>
  );
}

/** If captions cannot run here, say so where somebody looks for them. */
function CaptionsEmpty() {
  const strings = useStrings();
  const captions = useApp((state) => state.meeting.processors.find((processor) => processor.name === 'captions'));
  if (captions?.available !== false) return <p class="empty">{strings.captionsEmpty}</p>;
  return (
    <p class="empty">
      {strings.captionsUnavailable} {strings.reasons[captions.reason] ?? captions.reason}
      {captions.command !== '' && <code class="command">{captions.command}</code>}
    </p>
  );
}

function Line({ line }: { line: CaptionLine }) {
  const id = line.participantId;
  const name = useApp((state) => state.meeting.names[id] ?? '–');
  return (
    <li class="line">
      <Avatar id={id} name={name} />
      <div>
        <span class="line-name">{name}</span>
        <p class="line-text" lang={line.language}>
          <CaptionText line={line} />
          <CaptionQuality line={line} />
        </p>
      </div>
    </li>
  );
}
