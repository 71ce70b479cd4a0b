// What is said of a processor wherever it is mentioned: its switch, who locked it, and why it does not run.

import type { ProcessorInfo, ProcessorStatus } from '../../client';
import { CopyButton, Switch } from '../controls';
import { useApp, useController, useStrings } from '../hooks';
import { isWanted } from '../processing';

/** For one's own tracks. */
export function ProcessorSwitch({ processor }: { processor: ProcessorInfo }) {
  const controller = useController();
  const strings = useStrings();
  const wanted = useApp((state) => isWanted(state.meeting, processor));
  return (
    <Switch
      label={strings.processorNames[processor.name] ?? processor.name}
      checked={wanted}
      // Nobody has to wait for a processor to be told no.
      disabled={processor.locked !== null || (!wanted && !processor.available)}
      onChange={(on) => void controller.setProcessor(processor.name, on)}
    />
  );
}

export function Locked({ processor }: { processor: ProcessorInfo }) {
  const strings = useStrings();
  if (processor.locked === null) return null;
  return (
    <p class="processor-why">
      {strings.lockedFor[processor.locked]}{' '}
      <span class="reason">{strings.lockedBy[processor.locked_by] ?? processor.locked_by}</span>
    </p>
  );
}

interface WhyProps {
  processor: ProcessorInfo;
  /** On the track that is meant; null if that is not known. */
  status: ProcessorStatus | null;
  /** Whether the track is somebody else's. */
  others?: boolean;
}

export function Why({ processor, status, others = false }: WhyProps) {
  const strings = useStrings();
  const state = status?.state ?? 'unavailable';
  const said = status?.reason || processor.reason;
  const reason = strings.reasons[said] ?? said;
  const text = others ? strings.othersStateTexts[state] : strings.stateTexts[state];
  return (
    <>
      {(text !== '' || reason !== '') && (
        <p class="processor-why">
          {text} {reason !== '' && <span class="reason">{reason}</span>}
        </p>
      )}
      {!processor.available && processor.command !== '' && (
        <div class="fix">
          <span>{strings.runThis}</span>
          <code class="command">{processor.command}</code>
          <CopyButton text={processor.command} label={strings.copy} icon="copy" />
        </div>
      )}
    </>
  );
}
