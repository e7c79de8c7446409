/** One conversation as the browser's Prompt API has it. */

import type { Client } from "./client.js";
import { TabagentError } from "./errors.js";
import { domError, inputOf, type LanguageModelPrompt } from "./prompts.js";
import type { ResponseStream } from "./response.js";
import type { InputItem, Model, ResponseRequest } from "./wire.js";

export interface LanguageModelCoreOptions {
  topK?: number;
  temperature?: number;
  expectedInputs?: { type: string; languages?: string[] }[];
  expectedOutputs?: { type: string; languages?: string[] }[];
  tools?: object[];
}

export interface LanguageModelPromptOptions {
  signal?: AbortSignal;
  /** A JSON schema for the answer. */
  responseConstraint?: object;
}

export const DEFAULT_TOP_K = 40;
export const DEFAULT_TEMPERATURE = 0.8;

/** One conversation. Its prompts are answered one after the other. */
export class LanguageModelSession extends EventTarget {
  readonly topK: number;
  readonly temperature: number;
  /** Tokens that fit into the conversation. */
  readonly contextWindow: number;
  oncontextoverflow: ((event: Event) => void) | null = null;
  onquotaoverflow: ((event: Event) => void) | null = null;
  readonly #client: Client;
  readonly #model: Model;
  readonly #initial: readonly InputItem[];
  readonly #options: LanguageModelCoreOptions;
  readonly #destroying = new AbortController();
  #turns: InputItem[] = [];
  #usage = 0;
  #last: Promise<void> = Promise.resolve();

  /** @internal */
  constructor(
    client: Client,
    model: Model,
    initial: readonly InputItem[],
    options: LanguageModelCoreOptions,
  ) {
    super();
    this.#client = client;
    this.#model = model;
    this.#initial = initial;
    this.#options = options;
    this.topK = options.topK ?? DEFAULT_TOP_K;
    this.temperature = options.temperature ?? DEFAULT_TEMPERATURE;
    this.contextWindow = model.context_length ?? Number.POSITIVE_INFINITY;
    const tell = (name: "contextoverflow" | "quotaoverflow") =>
      this.addEventListener(name, (event) => this[`on${name}`]?.(event));
    tell("contextoverflow");
    tell("quotaoverflow");
  }

  /** Tokens in use. */
  get contextUsage(): number {
    return this.#usage;
  }

  /** The former name of `contextUsage`. */
  get inputUsage(): number {
    return this.#usage;
  }

  /** The former name of `contextWindow`. */
  get inputQuota(): number {
    return this.contextWindow;
  }

  /** Reads the initial prompts. @internal */
  async start(signal?: AbortSignal): Promise<void> {
    if (this.#initial.length > 0) this.#usage = await this.#count([], signal);
    signal?.addEventListener("abort", () => this.destroy(signal.reason), { once: true });
  }

  /** Resolves to the whole answer. */
  async prompt(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): Promise<string> {
    let text = "";
    for await (const piece of this.#answer(input, options)) text += piece;
    return text;
  }

  /** Returns the answer piece by piece. */
  promptStreaming(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): ReadableStream<string> {
    const pieces = this.#answer(input, options);
    return new ReadableStream({
      pull: async (controller) => {
        const { done, value } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => {
        await pieces.return();
      },
    });
  }

  /** Reads more of the conversation ahead of the next prompt. */
  async append(input: LanguageModelPrompt, options: { signal?: AbortSignal } = {}): Promise<void> {
    const items = inputOf(input);
    await this.#inTurn(async () => {
      for (let fits = false; !fits; ) {
        try {
          this.#usage = await this.#count(items, options.signal);
          fits = true;
        } catch (error) {
          if (!this.#forgetOldest(error)) throw error;
        }
      }
      this.#turns.push(...items);
    });
  }

  /** Resolves to the number of tokens that a prompt would add. */
  async measureContextUsage(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): Promise<number> {
    const items = inputOf(input);
    return this.#inTurn(async () => {
      const isEmpty = this.#initial.length + this.#turns.length === 0;
      const before = isEmpty ? 0 : await this.#count([], options.signal);
      return (await this.#count(items, options.signal)) - before;
    });
  }

  /** The former name of `measureContextUsage`. */
  measureInputUsage(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): Promise<number> {
    return this.measureContextUsage(input, options);
  }

  /** Resolves to a session that goes on from here by itself. */
  async clone(options: { signal?: AbortSignal } = {}): Promise<LanguageModelSession> {
    options.signal?.throwIfAborted();
    return this.#inTurn(async () => {
      const copy = new LanguageModelSession(
        this.#client,
        this.#model,
        this.#initial,
        this.#options,
      );
      copy.#turns = [...this.#turns];
      copy.#usage = this.#usage;
      return copy;
    });
  }

  /** Ends the session and what it is answering. */
  destroy(reason: unknown = new DOMException("the session was destroyed", "AbortError")): void {
    this.#destroying.abort(reason);
  }

  async *#answer(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions,
  ): AsyncGenerator<string, void, undefined> {
    const items = inputOf(input);
    const format = formatOf(options.responseConstraint);
    const release = await this.#takeTurn();
    try {
      // The server refuses a prompt that does not fit before it writes anything.
      for (let fits = false; !fits; ) {
        try {
          yield* this.#exchange(items, format, options.signal);
          fits = true;
        } catch (error) {
          if (!this.#forgetOldest(error)) throw domError(error);
        }
      }
    } finally {
      release();
    }
  }

  async *#exchange(
    items: InputItem[],
    format: object,
    signal?: AbortSignal,
  ): AsyncGenerator<string, void, undefined> {
    const stream = this.#respond(items, format, signal);
    yield* stream.textStream();
    const { usage } = await stream.completed();
    this.#turns.push(...items, { role: "assistant", content: stream.received });
    this.#usage = usage?.total_tokens ?? this.#usage;
  }

  /** Resolves to the tokens of the conversation with `items` at its end. */
  async #count(items: InputItem[], signal?: AbortSignal): Promise<number> {
    const { usage } = await this.#respond(items, { generate: false }, signal).completed();
    return usage?.input_tokens ?? 0;
  }

  #respond(items: InputItem[], fields: object, signal?: AbortSignal): ResponseStream {
    const { topK, temperature } = this.#options;
    const request: ResponseRequest = {
      model: this.#model.id,
      input: [...this.#initial, ...this.#turns, ...items],
      ...(topK !== undefined && { top_k: topK }),
      ...(temperature !== undefined && { temperature }),
      ...fields,
    };
    const destroying = this.#destroying.signal;
    const either = signal ? AbortSignal.any([signal, destroying]) : destroying;
    return this.#client.respond(request, { signal: either });
  }

  /** Makes room after a prompt that was too long; returns false when that is not to be had. */
  #forgetOldest(error: unknown): boolean {
    const isTooLong = error instanceof TabagentError && error.code === "context_length_exceeded";
    if (!isTooLong || this.#turns.length === 0) return false;
    const answer = this.#turns.findIndex(({ role }) => role === "assistant");
    this.#turns.splice(0, answer < 0 ? this.#turns.length : answer + 1);
    this.dispatchEvent(new Event("contextoverflow"));
    this.dispatchEvent(new Event("quotaoverflow"));
    return true;
  }

  /** Resolves to what ends the turn, once everything asked of this session before has ended. */
  async #takeTurn(): Promise<() => void> {
    const before = this.#last;
    let release = () => {};
    this.#last = new Promise((resolve) => {
      release = resolve;
    });
    await before;
    if (this.#destroying.signal.aborted) {
      release();
      throw new DOMException("the session was destroyed", "InvalidStateError");
    }
    return release;
  }

  async #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const release = await this.#takeTurn();
    try {
      return await act();
    } catch (error) {
      throw domError(error);
    } finally {
      release();
    }
  }
}

function formatOf(constraint?: object): object {
  if (constraint === undefined) return {};
  if (constraint instanceof RegExp) {
    throw new DOMException("regular expressions are not supported", "NotSupportedError");
  }
  return { text: { format: { type: "json_schema", name: "constraint", schema: constraint } } };
}
