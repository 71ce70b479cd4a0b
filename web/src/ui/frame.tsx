import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { useController, useStrings } from './hooks';
import { Icon } from './icons';
import { Notices } from './notices';

interface FrameProps {
  title: string;
  /** In the middle, or along the side of the page; on a phone a drawer takes all of it. */
  look?: 'dialog' | 'drawer';
  /** Before the title. */
  mark?: ComponentChildren;
  children: ComponentChildren;
}

/** Around whatever is over the page. `<dialog>` itself keeps the focus inside, closes on Escape and gives the focus back. */
export function Frame({ title, look = 'dialog', mark, children }: FrameProps) {
  const controller = useController();
  const strings = useStrings();
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    const opener = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // Closing gives the focus back by itself; what has taken it since then keeps it.
      if (opener instanceof HTMLElement && document.activeElement === document.body) opener.focus();
    };
  }, []);
  const close = () => controller.showDialog(null);
  return (
    <dialog ref={element} class={look} aria-label={title} onClose={close}>
      <header class="dialog-head">
        {mark}
        <h2>{title}</h2>
        <button type="button" class="icon-button" aria-label={strings.close} onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      {children}
      <Notices />
    </dialog>
  );
}
