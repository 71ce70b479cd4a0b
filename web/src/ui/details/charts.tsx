// Timelines, drawn in CSS pixels so that text in them stays as it is. Each says in words what it shows.

import { shares, type Band, type Point } from '../../client';
import { useSize, useStrings } from '../hooks';

export interface Span {
  fromMs: number;
  toMs: number;
}

const LINE_HEIGHT = 56;
const MARGIN = 6;
const BAND_HEIGHT = 26;
/** About the width of a letter in a band; a word that does not fit is left to the list below. */
const LETTER = 7.5;

interface LineChartProps extends Span {
  title: string;
  stretches: Point[][];
  /** A range narrower than this is not blown up. */
  least: number;
  format(value: number): string;
}

export function LineChart({ title, stretches, least, format, fromMs, toMs }: LineChartProps) {
  const strings = useStrings();
  const [place, { width }] = useSize<HTMLDivElement>();
  const values = stretches.flat().map((point) => point.value);
  const last = values.at(-1);
  if (last === undefined) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [bottom, top] = [(low + high - Math.max(high - low, least)) / 2, (low + high + Math.max(high - low, least)) / 2];
  const x = (atMs: number) => MARGIN + ((atMs - fromMs) / (toMs - fromMs)) * (width - 2 * MARGIN);
  const y = (value: number) => LINE_HEIGHT - MARGIN - ((value - bottom) / (top - bottom)) * (LINE_HEIGHT - 2 * MARGIN);
  const path = (points: Point[]) => `M${points.map((point) => `${x(point.atMs).toFixed(1)} ${y(point.value).toFixed(1)}`).join('L')}`;
  return (
    <figure class="chart">
      <figcaption class="chart-head">
        <span>{title}</span>
        <span class="chart-last">{format(last)}</span>
      </figcaption>
      <div ref={place} role="img" aria-label={`${title}: ${strings.details.range(format(low), format(high), format(last))}`}>
        {width > 0 && (
          <svg class="chart-lines" width={width} height={LINE_HEIGHT} aria-hidden="true" focusable="false">
            {stretches.map((points) => (
              <path key={points[0]?.atMs} d={path(points)} />
            ))}
            {stretches.map((points) => points.slice(-1).map((point) => <circle key={point.atMs} cx={x(point.atMs)} cy={y(point.value)} r="2.5" />))}
          </svg>
        )}
      </div>
    </figure>
  );
}

interface BandChartProps extends Span {
  title: string;
  bands: Band[];
}

export function BandChart({ title, bands, fromMs, toMs }: BandChartProps) {
  const strings = useStrings();
  const [place, { width }] = useSize<HTMLDivElement>();
  const nameOf = (label: string) => strings.emotions[label] ?? label;
  const told = shares(bands).map(({ label, share }) => ({ label, text: strings.details.share(nameOf(label), share) }));
  const x = (atMs: number) => ((atMs - fromMs) / (toMs - fromMs)) * width;
  return (
    <figure class="chart">
      <div ref={place} role="img" aria-label={`${title}: ${told.map(({ text }) => text).join(', ')}`}>
        {width > 0 && (
          <svg class="chart-bands" width={width} height={BAND_HEIGHT} aria-hidden="true" focusable="false">
            <rect class="chart-ground" width={width} height={BAND_HEIGHT} rx="6" />
            {bands.map(({ label, fromMs: startMs, toMs: endMs }) => {
              const [left, wide] = [x(startMs), Math.max(1.5, x(endMs) - x(startMs))];
              const name = nameOf(label);
              return (
                <g key={startMs} class={`tone-${toneOf(label)}`}>
                  <rect x={left} width={wide} height={BAND_HEIGHT} rx={Math.min(6, wide / 2)} />
                  {wide > LETTER * (Array.from(name).length + 1) && (
                    <text x={left + wide / 2} y={BAND_HEIGHT / 2}>
                      {name}
                    </text>
                  )}
                </g>
              );
            })}
          </svg>
        )}
      </div>
      <TimeAxis fromMs={fromMs} toMs={toMs} />
      {/* Said by the label above already. */}
      <figcaption class="chart-shares" aria-hidden="true">
        {told.map(({ label, text }) => (
          <span key={label} class={`chart-share tone-${toneOf(label)}`}>
            {text}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

/** Under the last timeline of a group. */
export function TimeAxis({ fromMs, toMs }: Span) {
  const strings = useStrings();
  return (
    <p class="chart-axis" aria-hidden="true">
      <span>{strings.details.ago(Math.round((toMs - fromMs) / 60_000))}</span>
      <span>{strings.details.now}</span>
    </p>
  );
}

/** Words of several models for the same thing share a colour. None of them judges: no red, no green. */
const TONES: Record<string, string> = {
  neutral: 'neutral',
  neu: 'neutral',
  happy: 'happy',
  hap: 'happy',
  joy: 'happy',
  sad: 'sad',
  sadness: 'sad',
  angry: 'angry',
  ang: 'angry',
  anger: 'angry',
  fear: 'fear',
  disgust: 'disgust',
  surprise: 'surprise',
};

function toneOf(label: string): string {
  return TONES[label] ?? 'neutral';
}
