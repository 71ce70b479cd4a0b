// One state, one way in (`dispatch`), many readers.

export class Store<State, Action> {
  #state: State;
  readonly #reduce: (state: State, action: Action) => State;
  readonly #readers = new Set<() => void>();

  constructor(reduce: (state: State, action: Action) => State, initial: State) {
    this.#reduce = reduce;
    this.#state = initial;
  }

  get state(): State {
    return this.#state;
  }

  readonly dispatch = (action: Action): void => {
    const next = this.#reduce(this.#state, action);
    if (next === this.#state) return;
    this.#state = next;
    for (const reader of [...this.#readers]) reader();
  };

  /** Returns the function that ends the subscription. */
  subscribe(reader: () => void): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }
}
