/** Remembers, where a program's death does not reach, how far its responses have come. */

/** Enough to go on with a response: JSON, consistent in itself. */
export interface ResumePoint {
  response_id: string;
  stream_id: string;
  /** The number of the last event taken. */
  starting_after: number;
  /** The text up to there. */
  text: string;
  /** The metadata of the request: whose answer this is. */
  metadata: Record<string, string>;
}

/** Where resume points are kept. */
export interface ResumeStore {
  load(): Promise<ResumePoint[]>;
  /** Replaces what is kept. */
  save(points: ResumePoint[]): Promise<void>;
}

/** The part of `chrome.storage.session` that a store needs. */
export interface StorageArea {
  get(key: string): Promise<Record<string, unknown>>;
  set(items: Record<string, unknown>): Promise<void>;
}

/** Returns a store in an extension's storage; `chrome.storage.session` is made for this. */
export function extensionStore(area: StorageArea, key = "tabagent.responses"): ResumeStore {
  return {
    load: async () => ((await area.get(key))[key] ?? []) as ResumePoint[],
    save: (points) => area.set({ [key]: points }),
  };
}

/** Writes to a store at most once per `interval` milliseconds, and never twice at a time. */
export class ResumeJournal {
  readonly #store: ResumeStore;
  readonly #points: () => ResumePoint[];
  readonly #interval: number;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #saving: Promise<void> | null = null;
  #again = false;

  constructor(store: ResumeStore, points: () => ResumePoint[], interval = 250) {
    this.#store = store;
    this.#points = points;
    this.#interval = interval;
  }

  /** Takes note of a change; an `urgent` one is written at once. */
  changed(urgent: boolean): void {
    if (urgent) {
      if (this.#timer !== null) clearTimeout(this.#timer);
      this.#timer = null;
      void this.#save();
    } else {
      this.#timer ??= setTimeout(() => {
        this.#timer = null;
        void this.#save();
      }, this.#interval);
    }
  }

  /** Resolves once all that is known is written. */
  async settled(): Promise<void> {
    this.changed(true);
    while (this.#saving !== null) await this.#saving;
  }

  async #save(): Promise<void> {
    this.#again = true;
    if (this.#saving !== null) return;
    this.#saving = this.#write();
    await this.#saving;
    this.#saving = null;
  }

  async #write(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      // A full or vanished store must not end the stream; resuming starts further back then.
      await this.#store.save(this.#points()).catch(() => {});
    }
  }
}
