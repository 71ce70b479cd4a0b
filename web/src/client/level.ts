// How loud a track is, for the meter beside the microphone.

/** Where on a meter from 0 to 1 a root mean square amplitude (0..1) lies: -60 dBFS is 0, -10 dBFS is 1. */
export function meterPosition(rms: number): number {
  if (rms <= 0) return 0;
  const dbfs = 20 * Math.log10(rms);
  return Math.min(1, Math.max(0, (dbfs + 60) / 50));
}

export function rmsOf(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / Math.max(1, samples.length));
}

/** Reads a microphone track about 30 times a second until closed. */
export class LevelMeter {
  readonly #context = new AudioContext();
  readonly #analyser = this.#context.createAnalyser();
  readonly #timer: number;

  constructor(track: MediaStreamTrack, onLevel: (position: number) => void) {
    this.#analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(new MediaStream([track])).connect(this.#analyser);
    const samples = new Float32Array(this.#analyser.fftSize);
    this.#timer = window.setInterval(() => {
      this.#analyser.getFloatTimeDomainData(samples);
      onLevel(meterPosition(rmsOf(samples)));
    }, 33);
    // Until the person touches the page, a browser may keep the context asleep; the meter then shows silence.
    window.addEventListener('pointerdown', this.#wake);
    window.addEventListener('keydown', this.#wake);
  }

  close(): void {
    window.clearInterval(this.#timer);
    window.removeEventListener('pointerdown', this.#wake);
    window.removeEventListener('keydown', this.#wake);
    void this.#context.close();
  }

  readonly #wake = (): void => {
    if (this.#context.state === 'suspended') void this.#context.resume();
  };
}
