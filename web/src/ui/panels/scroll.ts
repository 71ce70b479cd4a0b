import { useLayoutEffect, useRef } from 'preact/hooks';

const NEAR_END_PX = 60;

/** Keep a list at its end while it grows, unless the person has scrolled up to read. */
export function useStickToEnd<T extends HTMLElement>(growth: unknown): { current: T | null } {
  const list = useRef<T>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    const element = list.current;
    if (element === null) return undefined;
    const look = () => {
      atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END_PX;
    };
    element.addEventListener('scroll', look, { passive: true });
    return () => element.removeEventListener('scroll', look);
  }, []);
  useLayoutEffect(() => {
    if (atEnd.current && list.current !== null) list.current.scrollTop = list.current.scrollHeight;
  }, [growth]);
  return list;
}
