import { createContext } from 'preact';
import { useContext, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { AppState } from './app_state';
import type { Controller } from './controller';
import { LANGUAGES, type Strings } from './strings';

export const ControllerContext = createContext<Controller | null>(null);

export function useController(): Controller {
  const controller = useContext(ControllerContext);
  if (controller === null) throw new Error('a component is used outside of <App>');
  return controller;
}

/** What `select` reads of the state; the component is drawn again when that value is another one. */
export function useApp<T>(select: (state: AppState) => T): T {
  const { store } = useController();
  const [value, setValue] = useState(() => select(store.state));
  const latest = useRef(select);
  latest.current = select;
  useLayoutEffect(() => {
    const read = () => setValue(() => latest.current(store.state));
    read();
    return store.subscribe(read);
  }, [store]);
  // The closure may have changed since the last reading (another participant, another track).
  const now = select(store.state);
  return Object.is(now, value) ? value : now;
}

export function useStrings(): Strings {
  return LANGUAGES[useApp((state) => state.language)].strings;
}

/** The size of an element in CSS pixels, kept up to date. */
export function useSize<T extends HTMLElement>(): [(element: T | null) => void, { width: number; height: number }] {
  const [element, setElement] = useState<T | null>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    if (element === null) return undefined;
    const observer = new ResizeObserver(([entry]) => {
      if (entry !== undefined) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [setElement, size];
}

/** `performance.now()`, once a second. */
export function useNow(): number {
  const [nowMs, setNowMs] = useState(() => performance.now());
  useEffect(() => {
    const timer = window.setInterval(() => setNowMs(performance.now()), 1000);
    return () => window.clearInterval(timer);
  }, []);
  return nowMs;
}

/** True while `until` (a `performance.now()`) lies ahead. */
export function useUntil(untilMs: number): boolean {
  const [, redraw] = useState(0);
  const leftMs = untilMs - performance.now();
  useEffect(() => {
    if (leftMs <= 0) return undefined;
    const timer = window.setTimeout(() => redraw((count) => count + 1), leftMs + 20);
    return () => window.clearTimeout(timer);
  }, [untilMs]);
  return leftMs > 0;
}
