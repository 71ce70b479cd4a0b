// Small parts used in several places.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Device } from '../client';
import { LevelMeter } from '../client';
import { useApp, useController, useStrings } from './hooks';
import { Icon, type IconName } from './icons';
import { LANGUAGES, type Explanation, type Language } from './strings';

interface NoteProps {
  tone: 'info' | 'warning';
  icon: IconName;
  explanation: Explanation;
  /** `alert` interrupts a screen reader, `status` waits. */
  role?: 'alert' | 'status';
  children?: ComponentChildren;
}

/** Something happened: what it is, what to do, and the buttons for doing it. */
export function Note({ tone, icon, explanation, role = 'status', children }: NoteProps) {
  return (
    <div class={`note note-${tone}`} role={role}>
      <Icon name={icon} />
      <div class="note-body">
        <strong>{explanation.title}</strong>
        <p>{explanation.text}</p>
        {children !== undefined && <div class="note-actions">{children}</div>}
      </div>
    </div>
  );
}

interface SwitchProps {
  label: string;
  checked: boolean;
  disabled?: boolean;
  onChange(on: boolean): void;
}

export function Switch({ label, checked, disabled = false, onChange }: SwitchProps) {
  return (
    <button
      type="button"
      role="switch"
      class="switch"
      aria-checked={checked}
      aria-label={label}
      disabled={disabled}
      onClick={() => onChange(!checked)}
    >
      <span class="switch-knob" />
    </button>
  );
}

export function LanguageSwitch() {
  const controller = useController();
  const strings = useStrings();
  const language = useApp((state) => state.language);
  const choose = (event: Event) => controller.setLanguage((event.currentTarget as HTMLSelectElement).value as Language);
  return (
    <select class="quiet-select" aria-label={strings.language} value={language} onChange={choose}>
      {Object.entries(LANGUAGES).map(([key, { name, tag }]) => (
        <option key={key} value={key} lang={tag}>
          {name}
        </option>
      ))}
    </select>
  );
}

/** How loud the microphone is now. Drawn outside of the store: thirty times a second is nobody else's business. */
export function MicrophoneLevel() {
  const strings = useStrings();
  const track = useApp((state) => (state.local.microphone.on ? state.local.microphone.track : null));
  const bar = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (track === null) return undefined;
    const meter = new LevelMeter(track, (position) => {
      if (bar.current !== null) bar.current.style.transform = `scaleX(${position.toFixed(3)})`;
    });
    return () => {
      meter.close();
      if (bar.current !== null) bar.current.style.transform = 'scaleX(0)';
    };
  }, [track]);
  return (
    <span class="level" role="img" aria-label={strings.level}>
      <span class="level-bar" ref={bar} />
    </span>
  );
}

const DEVICE_KINDS = { microphone: 'audioinput', camera: 'videoinput', speaker: 'audiooutput' } as const;

/** A picker for one kind of device; absent while the browser has none to offer. */
export function DevicePicker({ device }: { device: Device | 'speaker' }) {
  const controller = useController();
  const strings = useStrings();
  const devices = useApp((state) => state.local.devices);
  const chosen = useApp((state) => (device === 'speaker' ? state.local.speakerId : state.local[device].deviceId));
  const offered = devices.filter((info) => info.kind === DEVICE_KINDS[device] && info.deviceId !== '');
  if (offered.length === 0) return null;
  if (device === 'speaker' && !('setSinkId' in HTMLMediaElement.prototype)) return null;
  const choose = (event: Event) => {
    const { value } = event.currentTarget as HTMLSelectElement;
    if (device === 'speaker') controller.chooseSpeaker(value);
    else void controller.choose(device, value);
  };
  return (
    <label class="field">
      <span class="field-label">{strings[device]}</span>
      <select value={chosen} onChange={choose}>
        {!offered.some((info) => info.deviceId === chosen) && <option value={chosen}>{strings.systemDefault}</option>}
        {offered.map((info) => (
          <option key={info.deviceId} value={info.deviceId}>
            {info.label || strings.systemDefault}
          </option>
        ))}
      </select>
    </label>
  );
}

export function CopyButton({ text, label, icon }: { text: string; label: string; icon: IconName }) {
  const controller = useController();
  const strings = useStrings();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = window.setTimeout(() => setCopied(false), 2500);
    return () => window.clearTimeout(timer);
  }, [copied]);
  const copy = async () => setCopied(await controller.copy(text));
  return (
    <button type="button" class="button button-quiet" onClick={() => void copy()} aria-label={label}>
      <Icon name={copied ? 'check' : icon} />
      <span class="button-text" aria-live="polite">
        {copied ? strings.copied : label}
      </span>
    </button>
  );
}

/** Initials on a calm colour that stays the same for the same person. */
export function Avatar({ id, name }: { id: string; name: string }) {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  const initials = letters.map((word) => Array.from(word ?? '')[0] ?? '').join('');
  return (
    <span class={`avatar hue-${hueOf(id)}`} aria-hidden="true">
      {initials.toUpperCase()}
    </span>
  );
}

export function hueOf(id: string): number {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 997;
  return sum % 6;
}
