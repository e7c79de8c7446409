/** Measures an answer as it arrives: time to first token, speed, gaps. */

/** Gaps that are kept for the plot. */
const KEPT_GAPS = 160;

/** An answer that came within so many milliseconds came in too few pieces to time them. */
const TOO_SHORT = 50;

/** What has been measured of one answer; times in milliseconds. */
export interface Measurement {
  firstToken: number | null;
  tokens: number;
  /** Tokens per second since the first piece, or since the question where all came at once. */
  rate: number | null;
  /** Times between one arrival and the next, the oldest first. */
  gaps: readonly number[];
}

export const NOTHING_MEASURED: Measurement = { firstToken: null, tokens: 0, rate: null, gaps: [] };

/** Begins to measure when it is made. */
export class Meter {
  readonly #start: number;
  #first: number | null = null;
  #last = 0;
  #tokens = 0;
  #tokensOfFirst = 0;
  #gaps: number[] = [];

  constructor(now = performance.now()) {
    this.#start = now;
  }

  /** Counts tokens that have come together. */
  arrived(tokens: number, now = performance.now()): void {
    if (this.#first === null) {
      this.#first = now;
      this.#tokensOfFirst = tokens;
    } else {
      this.#gaps.push(now - this.#last);
      if (this.#gaps.length > KEPT_GAPS) this.#gaps.shift();
    }
    this.#tokens += tokens;
    this.#last = now;
  }

  read(): Measurement {
    if (this.#first === null) return NOTHING_MEASURED;
    const isShort = this.#last - this.#first < TOO_SHORT;
    const seconds = (this.#last - (isShort ? this.#start : this.#first)) / 1000;
    const counted = this.#tokens - (isShort ? 0 : this.#tokensOfFirst);
    return {
      firstToken: this.#first - this.#start,
      tokens: this.#tokens,
      rate: seconds > 0 ? counted / seconds : null,
      gaps: this.#gaps.slice(),
    };
  }
}

/** Returns the value below which half of the values lie. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
