/** One answer as its reader sees it: events, text, and the response they add up to. */

import type { ResponseSink } from "./connection.js";
import { isTerminal, type ResponseEvent, type ResponseObject } from "./wire.js";

/**
 * An answer that streams. Iterate over it once for its events, or over `textStream()` for its
 * text; `text()` and `completed()` need no iteration. Leaving the iteration early cancels it.
 */
export class ResponseStream implements AsyncIterable<ResponseEvent>, ResponseSink {
  /** The response's id; null until the server has accepted the request. */
  id: string | null;
  #text: string;
  readonly #cancel: () => void;
  readonly #completed: Promise<ResponseObject>;
  #resolve!: (response: ResponseObject) => void;
  #reject!: (error: unknown) => void;
  #waiting: ResponseEvent[] = [];
  #response: ResponseObject | null = null;
  #end: { error: unknown } | null = null;
  #wake: (() => void) | null = null;
  #isRead = false;

  constructor(cancel: () => void, id: string | null = null, text = "") {
    this.#cancel = cancel;
    this.id = id;
    this.#text = text;
    this.#completed = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#completed.catch(() => {}); // whoever asks for it hears of it
  }

  /** The text so far. */
  get received(): string {
    return this.#text;
  }

  /** Resolves to the whole text; rejects when the response fails or is aborted. */
  async text(): Promise<string> {
    await this.#completed;
    return this.#text;
  }

  /** Resolves to the response at its end: status, usage, timings. */
  completed(): Promise<ResponseObject> {
    return this.#completed;
  }

  /** Ends the answer early; what has come so far stays, and its status is `cancelled`. */
  cancel(): void {
    this.#cancel();
  }

  /** Yields the text piece by piece; a resumed response begins with what was there before. */
  async *textStream(): AsyncGenerator<string, void, undefined> {
    const before = this.#text.slice(0, this.#text.length - this.#waitingText());
    if (before) yield before;
    for await (const event of this) {
      if (event.type === "response.output_text.delta" && event.delta) yield event.delta;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ResponseEvent, void, undefined> {
    if (this.#isRead) throw new TypeError("a response can be iterated over once");
    this.#isRead = true;
    try {
      while (true) {
        const arrived = this.#waiting;
        this.#waiting = [];
        yield* arrived;
        if (this.#waiting.length > 0) continue;
        if (this.#end !== null) break;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#end.error !== undefined) throw this.#end.error;
    } finally {
      if (this.#end === null) this.#cancel();
    }
  }

  /** @internal */
  event(event: ResponseEvent): void {
    if (event.type === "response.output_text.delta") this.#text += event.delta;
    else if (event.type === "response.created") this.id = event.response.id;
    else if (isTerminal(event)) this.#response = event.response;
    this.#waiting.push(event);
    this.#wake?.();
  }

  /** @internal */
  end(): void {
    this.#end = { error: undefined };
    if (this.#response) this.#resolve(this.#response);
    else this.#reject(new DOMException("cancelled before it began", "AbortError"));
    this.#wake?.();
  }

  /** @internal */
  fail(error: unknown): void {
    this.#end = { error };
    this.#reject(error);
    this.#wake?.();
  }

  #waitingText(): number {
    let length = 0;
    for (const event of this.#waiting) {
      if (event.type === "response.output_text.delta") length += event.delta.length;
    }
    return length;
  }
}
