/** The chat: turns, the answer that is being written, and the connection to the server. */

/** @import { ChatState, FromPanel, Progress, ToPanel, Turn } from "./messages.js" */
/** @import { Client, ModelStateEvent, ResponseEvent, ResponseStream } from "./vendor/tabagent.js" */

import { loadSettings } from "./settings.js";
import { connect, extensionStore, TabagentError } from "./vendor/tabagent.js";

/** Session storage outlives this worker, and ends with the browser. */
const KEPT = "chat";

const TOO_LONG = "context_length_exceeded";

export class Chat {
  /** @type {ChatState} */
  state = {
    turns: [],
    model: null,
    models: [],
    ready: false,
    transport: null,
    problem: null,
    running: false,
    progress: null,
    rate: null,
  };
  /** @type {(message: ToPanel) => void} */
  #tell;
  /** @type {Client | null} */
  #client = null;
  #connecting = new AbortController();
  /** @type {ResponseStream | null} */
  #answer = null;

  /** @param {(message: ToPanel) => void} tell */
  constructor(tell) {
    this.#tell = tell;
  }

  /** Goes on where an earlier life of the service worker stopped. */
  async start() {
    const kept = (await chrome.storage.session.get(KEPT))[KEPT];
    if (kept) Object.assign(this.state, kept);
    this.#show();
    await this.#connect();
  }

  /** @param {FromPanel} message */
  async receive(message) {
    switch (message.type) {
      case "ask":
        return this.#ask({ role: "user", text: message.text, shown: message.shown });
      case "stop":
        return this.#answer?.cancel();
      case "choose":
        return this.#choose(message.model);
      case "reconnect":
        return this.#connect();
      case "clear":
        this.#answer?.cancel();
        this.#answer = null;
        this.#change({ turns: [], running: false, progress: null, rate: null });
    }
  }

  async #connect() {
    this.#connecting.abort();
    this.#connecting = new AbortController();
    const { signal } = this.#connecting;
    this.#client?.close();
    this.#change({ ready: false, transport: null, problem: null });
    try {
      const store = extensionStore(chrome.storage.session);
      const client = await connect({ ...(await loadSettings()), store, signal });
      this.#client = client;
      client.on("state", () => {
        if (client === this.#client) this.#change({ transport: client.transport });
      });
      this.#change({ ready: true, transport: client.transport });
      this.#resume(client);
      await this.#listModels(client);
    } catch (error) {
      if (signal.aborted) return; // another attempt has taken over
      this.#interrupt();
      this.#change({ problem: detailsOf(error) });
    }
  }

  /** @param {Client} client */
  #resume(client) {
    const last = this.state.turns.length - 1;
    const turn = this.state.turns[last];
    for (const point of client.unfinished()) {
      const stream = client.resume(point);
      if (turn && point.metadata.turn === String(last)) void this.#finish(stream, turn);
      else stream.cancel();
    }
    if (!this.#answer) this.#interrupt();
  }

  /** Gives up an answer that an earlier life was reading. */
  #interrupt() {
    const turn = this.state.turns.at(-1);
    if (this.state.running && turn) turn.error = "The answer was interrupted.";
    this.#change({ running: false, progress: null });
  }

  /** @param {Turn} question */
  async #ask(question) {
    const client = this.#client;
    if (!client || this.state.running) return;
    let input = [...this.state.turns, question]
      .filter(({ error, text }) => !error && text)
      .map(({ role, text }) => ({ role, content: text }));
    /** @type {Turn} */
    const turn = { role: "assistant", text: "" };
    const turns = [...this.state.turns, question, turn];
    this.#change({ turns, running: true, rate: null });
    const fields = {
      metadata: { turn: String(turns.length - 1) },
      return_token_ids: true,
      truncation: "auto", // the oldest turns go when the context is full
      ...(this.state.model && { model: this.state.model }),
    };
    const ask = () => client.respond({ input, ...fields });
    let shorter = shortened(input); // a page may be longer than the context
    while ((await this.#finish(ask(), turn, shorter !== null)) === TOO_LONG && shorter) {
      input = shorter;
      shorter = shortened(input);
    }
  }

  /**
   * Follows an answer to its end, and shows that.
   *
   * @param {ResponseStream} stream
   * @param {Turn} turn
   * @param {boolean} mayRetry whether a question that is too long is asked again
   * @returns {Promise<string | null>} the code of what went wrong
   */
  async #finish(stream, turn, mayRetry = false) {
    /** @type {string | null} */
    let code = null;
    this.#answer = stream;
    try {
      await this.#follow(stream, turn);
    } catch (error) {
      const details = detailsOf(error);
      code = details.code;
      if (code === TOO_LONG && mayRetry) return code;
      turn.error = details.message;
    }
    if (this.#answer === stream) {
      this.#answer = null;
      this.#change({ running: false, progress: null });
    }
    return code;
  }

  /**
   * @param {ResponseStream} stream
   * @param {Turn} turn
   */
  async #follow(stream, turn) {
    turn.text = stream.received;
    const speed = new Speed();
    this.#change({ running: true, progress: turn.text ? null : { text: "Waiting…", part: null } });
    for await (const event of stream) {
      if (this.#answer !== stream) return;
      if (event.type === "response.output_text.delta") {
        turn.text += event.delta;
        this.state.rate = speed.count(event.token_ids?.length ?? 1);
        if (this.state.progress) this.#change({ progress: null });
        else this.#tell({ type: "delta", text: event.delta, rate: this.state.rate });
      } else {
        const progress = progressOf(event);
        if (progress) this.#change({ progress });
      }
    }
    const { usage, timings, status } = await stream.completed();
    const words = [`${usage?.input_tokens} tokens read`, `${usage?.output_tokens} written`];
    if (status === "cancelled") words.push("stopped");
    if (status === "incomplete") words.push("cut off: the context is full");
    turn.note = words.join(" · ");
    this.state.rate = timings?.predicted_per_second ?? null;
  }

  /** @param {string} id */
  async #choose(id) {
    const client = this.#client;
    const model = this.state.models.find((known) => known.id === id);
    if (!client || !model) return;
    const before = this.state.model;
    this.#change({ model: id });
    if (model.state === "ready") return;
    try {
      await client.models.load(id, (event) => this.#change({ progress: progressOf(event) }));
      this.#change({ progress: null });
    } catch (error) {
      const { code, message } = detailsOf(error);
      const hint = "over this connection models cannot be loaded; the native host can";
      const text = `${id}: ${code === "scope_required" ? hint : message}`;
      this.#change({ model: before, progress: { text, part: null } });
    }
    await this.#listModels(client);
  }

  /**
   * Lists the models, again and again while one of them loads.
   *
   * @param {Client} client
   */
  async #listModels(client) {
    const models = await client.models.list();
    this.#change({ models });
    if (models.some(({ state }) => state === "loading")) {
      setTimeout(() => void this.#listModels(client).catch(() => {}), 1000);
    }
  }

  /** @param {Partial<ChatState>} changes */
  #change(changes) {
    Object.assign(this.state, changes);
    this.#show();
    const { turns, model, running } = this.state;
    void chrome.storage.session.set({ [KEPT]: { turns, model, running } });
  }

  #show() {
    this.#tell({ type: "state", state: this.state });
  }
}

/** Tokens per second since the first one. */
class Speed {
  #tokens = 0;
  #start = 0;

  /**
   * @param {number} tokens
   * @returns {number | null}
   */
  count(tokens) {
    const now = performance.now();
    if (this.#start === 0) {
      this.#start = now;
      return null;
    }
    this.#tokens += tokens;
    return now > this.#start ? (this.#tokens * 1000) / (now - this.#start) : null;
  }
}

/**
 * @param {ResponseEvent} event
 * @returns {Progress | null}
 */
function progressOf(event) {
  switch (event.type) {
    case "tabagent.queued":
      return { text: `Waiting behind ${event.position}…`, part: null };
    case "tabagent.prompt_progress":
      return {
        text: `Reading, ${event.done} of ${event.total} tokens…`,
        part: event.done / event.total,
      };
    case "tabagent.model.state":
      if (event.state !== "loading") return null;
      return { text: `Loading ${event.model}…`, part: event.progress };
    default:
      return null;
  }
}

/**
 * Cuts the end off a question that does not fit even alone, such as one about a long page.
 *
 * @template {{ role: string, content: string }} T
 * @param {T[]} input
 * @returns {T[] | null} null when there is nothing to be gained
 */
function shortened(input) {
  const question = input.at(-1);
  if (!question || question.content.length < 500) return null;
  return [{ ...question, content: question.content.slice(0, question.content.length * 0.6) }];
}

/** @param {unknown} error */
function detailsOf(error) {
  if (error instanceof TabagentError) return error.details;
  return { code: "connection_lost", message: String(error) };
}
