// Which server to ask: the one that we were sent to, or, when that cannot be reached, the others in turn.

export class Nodes {
  /** To be asked now; empty: where the page came from. */
  url: string;
  readonly #home: string;
  #known: string[];

  constructor(home = '') {
    this.url = this.#home = home;
    this.#known = [home];
  }

  /** Whether there is anywhere else to go. */
  get several(): boolean {
    return this.#known.length > 1;
  }

  /** We are in at `url`, and these may go on with the room. */
  joined(others: readonly string[]): void {
    this.#known = [...new Set([this.url, ...others, this.#home])];
  }

  /** The room is there. What was known stays known: that server may be the one that has just died. */
  redirected(url: string): void {
    this.url = url;
    if (!this.#known.includes(url)) this.#known.push(url);
  }

  /** The room went there (null: elsewhere). */
  moved(url: string | null): void {
    if (url === null) this.failed();
    else this.redirected(url);
  }

  /** The one asked now could not help: ask the next one. */
  failed(): void {
    const next = (this.#known.indexOf(this.url) + 1) % this.#known.length;
    this.url = this.#known[next] ?? this.#home;
  }
}
