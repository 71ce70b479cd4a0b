// Our own icons: 24 x 24, one stroke. Always beside or inside something that has a name, so hidden from screen readers.

const PATHS = {
  microphone: 'M12 3.5a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0v-5a3 3 0 0 0-3-3ZM5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3',
  microphoneOff: 'M9 9v2.5a3 3 0 0 0 4.6 2.5M15 11V6.5a3 3 0 0 0-5.7-1.3M5.5 11.5a6.5 6.5 0 0 0 10.3 5.3M18.5 11.5a6.5 6.5 0 0 1-.6 2.7M12 18v3M4 4l16 16',
  camera: 'M4.5 7h9a1.5 1.5 0 0 1 1.5 1.5v7a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 3 15.5v-7A1.5 1.5 0 0 1 4.5 7ZM15 11l6-3.5v9L15 13',
  cameraOff: 'M9 7h4.5A1.5 1.5 0 0 1 15 8.5V13M14 17H4.5A1.5 1.5 0 0 1 3 15.5v-7A1.5 1.5 0 0 1 4.5 7H5M15 11l6-3.5v9l-2-1.2M4 4l16 16',
  screen: 'M4.5 5h15A1.5 1.5 0 0 1 21 6.5v8a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 14.5v-8A1.5 1.5 0 0 1 4.5 5ZM9 20h6M12 13.5V8.5M9.5 10.5 12 8l2.5 2.5',
  captions: 'M4.5 5.5h15A1.5 1.5 0 0 1 21 7v10a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17V7a1.5 1.5 0 0 1 1.5-1.5ZM6.5 11.5h5M14.5 11.5h3M6.5 15h3M12.5 15h5',
  chat: 'M5 4.5h14A1.5 1.5 0 0 1 20.5 6v9a1.5 1.5 0 0 1-1.5 1.5h-6.5L8 20.5v-4H5A1.5 1.5 0 0 1 3.5 15V6A1.5 1.5 0 0 1 5 4.5ZM8 9h8M8 12.5h5',
  people: 'M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 19.5a6.5 6.5 0 0 1 13 0M16 4.8a3.5 3.5 0 0 1 0 6.5M18 13.7a6.5 6.5 0 0 1 3.5 5.8',
  processors: 'M3 12h2.5M7.5 8v8M11 4.5v15M14.5 9v6M18 10.5v3M20.5 12h.5',
  leave: 'M14 4.5H6A1.5 1.5 0 0 0 4.5 6v12A1.5 1.5 0 0 0 6 19.5h8M10 12h10.5M17 8.5l3.5 3.5-3.5 3.5',
  settings: 'M4 7h8M16 7h4M4 17h4M12 17h8M14 4.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5ZM10 14.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5Z',
  link: 'M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1',
  lock: 'M6.5 10.5h11A1.5 1.5 0 0 1 19 12v6.5a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 18.5V12a1.5 1.5 0 0 1 1.5-1.5ZM8 10.5V8a4 4 0 0 1 8 0v2.5',
  close: 'M6 6l12 12M18 6 6 18',
  send: 'M4.5 12 20 4.5 15.5 20l-3.5-6.5L4.5 12ZM12 13.5l3.5-4',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  alert: 'M12 4 2.8 19.5h18.4L12 4ZM12 10v4.5M12 17v.2',
  keyboard: 'M4.5 6.5h15A1.5 1.5 0 0 1 21 8v8a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 16V8a1.5 1.5 0 0 1 1.5-1.5ZM7 10h.2M10.3 10h.2M13.6 10h.2M17 10h.2M8 14h8',
  sound: 'M4 9.5v5h3.5L12 18.5v-13L7.5 9.5H4ZM15.5 9a4 4 0 0 1 0 6M18 6.5a7.5 7.5 0 0 1 0 11',
  details: 'M4 4.5V19h16M7.5 14.5l3.5-4.5 3 3 5-6.5',
  copy: 'M9 8.5h9.5V19H9ZM5.5 15.5V5H15',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** An open ring, the C, that hears a voice: three strokes of sound in its mouth. */
export function Logo({ wordmark }: { wordmark: boolean }) {
  return (
    <span class="logo">
      <svg class="logo-mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
        <path class="logo-ring" d="M24.5 7.2A12 12 0 1 0 24.5 24.8" />
        <path class="logo-voice" d="M15 12.5v7M20.5 10v12M26 13.5v5" />
      </svg>
      {wordmark && <span class="logo-word">Candor</span>}
    </span>
  );
}
