import { useEffect, useRef, useState } from 'preact/hooks';
import type { ChatLine } from '../../client';
import { useApp, useController, useStrings } from '../hooks';
import { Icon } from '../icons';
import { LANGUAGES } from '../strings';
import { PanelFrame } from './panel_frame';
import { useStickToEnd } from './scroll';

const MAX_CHARACTERS = 4000;

export function ChatPanel() {
  const strings = useStrings();
  const chat = useApp((state) => state.meeting.chat);
  const list = useStickToEnd<HTMLDivElement>(chat);
  return (
    <PanelFrame title={strings.chat}>
      <div class="panel-scroll" ref={list} tabIndex={0} role="group" aria-label={strings.chat}>
        {chat.length === 0 && <p class="empty">{strings.chatEmpty}</p>}
        <div role="log" aria-live="polite" aria-label={strings.chat}>
          <ol class="messages">
            {chat.map((line, index) => (
              <Message key={`${line.sent_at} ${index}`} line={line} follows={follows(chat[index - 1], line)} />
            ))}
          </ol>
        </div>
      </div>
      <ChatForm />
    </PanelFrame>
  );
}

/** The second message in a row of the same person needs no name. */
function follows(before: ChatLine | undefined, line: ChatLine): boolean {
  return before?.participant_id === line.participant_id;
}

function Message({ line, follows: isFollowing }: { line: ChatLine; follows: boolean }) {
  const strings = useStrings();
  const isOwn = useApp((state) => state.meeting.selfId === line.participant_id);
  const tag = useApp((state) => LANGUAGES[state.language].tag);
  const time = new Date(line.sent_at).toLocaleTimeString(tag, { hour: 'numeric', minute: '2-digit' });
  return (
    <li class={`message ${isOwn ? 'message-own' : ''} ${isFollowing ? 'message-follows' : ''}`}>
      {!isFollowing && (
        <span class="message-head">
          <span class="line-name">{isOwn ? strings.you : line.name}</span>
          <time dateTime={line.sent_at}>{time}</time>
        </span>
      )}
      <p class="message-text">{line.text}</p>
    </li>
  );
}

function ChatForm() {
  const controller = useController();
  const strings = useStrings();
  const [text, setText] = useState('');
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  const send = async () => {
    const said = text.trim();
    if (said === '') return;
    if (await controller.chat(said)) setText('');
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // While an input method composes, Enter chooses a character and is not ours.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void send();
  };
  const onSubmit = (event: Event) => {
    event.preventDefault();
    void send();
  };
  return (
    <form class="chat-form" onSubmit={onSubmit}>
      <textarea
        ref={field}
        rows={1}
        maxLength={MAX_CHARACTERS}
        value={text}
        aria-label={strings.chatPlaceholder}
        placeholder={strings.chatPlaceholder}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <button type="submit" class="icon-button icon-button-accent" aria-label={strings.send} disabled={text.trim() === ''}>
        <Icon name="send" />
      </button>
    </form>
  );
}
