/** The client: requests in, streams out, over whatever transport can be had. */

import { Connection, type ResponseSink } from "./connection.js";
import { connectionFailed, TabagentError } from "./errors.js";
import { type CommandOptions, Models } from "./models.js";
import { ResponseStream } from "./response.js";
import { ResumeJournal, type ResumePoint, type ResumeStore } from "./resume.js";
import type { Dialer, Transport, TransportKind } from "./transport.js";
import type { Message, ModelStateEvent, ResponseRequest } from "./wire.js";

/** How a client behaves, whatever its transport. */
export interface ClientOptions {
  /** Keeps resume points where they outlive this program, such as an extension's service worker. */
  store?: ResumeStore;
  /** Milliseconds between pings; 20 s by default, which keeps a service worker alive. */
  pingInterval?: number;
  /** Milliseconds for which a lost connection is tried again; the server's `resume_ttl`, 60 s. */
  resumeWindow?: number;
}

/** `open`; `connecting`, at first or again; `idle` until the next request; `closed` for good. */
export type ClientState = "connecting" | "open" | "idle" | "closed";

interface Listeners {
  state: (state: ClientState) => void;
  modelState: (event: ModelStateEvent) => void;
  /** An error that no request caused. */
  error: (error: TabagentError) => void;
}

/** What `respond` takes beside the request. */
export interface RespondOptions {
  signal?: AbortSignal;
  /** Whether the answer goes on while the connection is lost, to be resumed; true by default. */
  resumable?: boolean;
}

const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 2_000;

/** A connection to a TabAgent server that mends itself. Made by `connect`. */
export class Client {
  /** Lists, loads, unloads, downloads and deletes models. */
  readonly models: Models = new Models((message, options) => this.#command(message, options));
  readonly #dialers: readonly Dialer[];
  readonly #pingInterval: number;
  readonly #resumeWindow: number;
  readonly #store: ResumeStore | null;
  readonly #journal: ResumeJournal | null;
  readonly #connection: Connection;
  readonly #listeners = new Map<keyof Listeners, Set<(argument: never) => void>>();
  readonly #closing = new AbortController();
  #unfinished: ResumePoint[] = [];
  #transport: Transport | null = null;
  #state: ClientState = "idle";
  #dialing: Promise<void> | null = null;
  #mending = false;
  #pings: ReturnType<typeof setInterval> | null = null;

  constructor(dialers: readonly Dialer[], options: ClientOptions = {}) {
    this.#dialers = dialers;
    this.#pingInterval = options.pingInterval ?? 20_000;
    this.#resumeWindow = options.resumeWindow ?? 60_000;
    this.#store = options.store ?? null;
    const points = () => [...this.#unfinished, ...this.#connection.resumePoints()];
    this.#journal = this.#store && new ResumeJournal(this.#store, points);
    this.#connection = new Connection({
      modelState: (event) => this.#tell("modelState", event),
      error: (error) => this.#tell("error", error),
      progress: (urgent) => this.#journal?.changed(urgent),
    });
  }

  /** What carries the messages now; null while there is no connection. */
  get transport(): TransportKind | null {
    return this.#transport?.kind ?? null;
  }

  get state(): ClientState {
    return this.#state;
  }

  /** Connects, and learns what an earlier life of this program left unfinished. */
  async open(signal?: AbortSignal): Promise<void> {
    if (this.#store) this.#unfinished = await this.#store.load();
    await this.#dial(this.#dialers, signal);
  }

  /** Asks for an answer. Errors come out of the stream. */
  respond(request: ResponseRequest, options: RespondOptions = {}): ResponseStream {
    const { signal, resumable = true } = options;
    return this.#stream(signal, null, (sink) => this.#connection.respond(request, resumable, sink));
  }

  /** Returns the answers that a program which has ended was reading; for `resume`. */
  unfinished(): readonly ResumePoint[] {
    return this.#unfinished;
  }

  /** Goes on with an answer where another connection or program left it. */
  resume(point: ResumePoint, options: { signal?: AbortSignal } = {}): ResponseStream {
    this.#unfinished = this.#unfinished.filter((kept) => kept.response_id !== point.response_id);
    return this.#stream(options.signal, point, (sink) => this.#connection.resume(point, sink));
  }

  /** Resolves to the milliseconds that a message takes to the server and back. */
  async ping(): Promise<number> {
    const start = performance.now();
    await this.#command({ type: "tabagent.ping" });
    return performance.now() - start;
  }

  /** Calls `listener` from now on; returns what ends that. */
  on<K extends keyof Listeners>(name: K, listener: Listeners[K]): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Cancels what runs and disconnects, for good. */
  close(): void {
    if (this.#state === "closed") return;
    this.#setState("closed");
    const reason = new DOMException("the client has been closed", "AbortError");
    this.#closing.abort(reason);
    this.#connection.cancelAll(reason);
    this.#flush();
    this.#connection.abandon(reason);
    this.#drop();
  }

  #stream(
    signal: AbortSignal | undefined,
    point: ResumePoint | null,
    begin: (sink: ResponseSink) => string,
  ): ResponseStream {
    let name = "";
    const end = (reason?: unknown) => {
      this.#connection.cancel(name, reason);
      this.#flush();
    };
    const stream = new ResponseStream(() => end(), point?.response_id, point?.text);
    if (signal?.aborted) {
      stream.fail(signal.reason);
      return stream;
    }
    name = begin(stream);
    const abort = () => end(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    const forget = () => signal?.removeEventListener("abort", abort);
    stream.completed().then(forget, forget);
    this.#proceed();
    return stream;
  }

  async #command(message: Message, options: CommandOptions = {}): Promise<Message> {
    const { modelState, progress, signal } = options;
    signal?.throwIfAborted();
    const stop = modelState && this.on("modelState", modelState);
    let abort = () => {};
    try {
      return await new Promise<Message>((answer, fail) => {
        const sink = { answer, fail, ...(progress && { progress }) };
        const name = this.#connection.command(message, sink);
        abort = () => {
          this.#connection.cancelCommand(name, signal?.reason);
          this.#flush();
        };
        signal?.addEventListener("abort", abort, { once: true });
        this.#proceed();
      });
    } finally {
      stop?.();
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Sends what is waiting, over a new connection when there is none. */
  #proceed(): void {
    if (this.#closing.signal.aborted) this.#connection.abandon(this.#closing.signal.reason);
    else if (this.#transport) this.#flush();
    else if (!this.#mending) {
      this.#dial(this.#dialers).catch((error) => this.#connection.abandon(error));
    }
  }

  #flush(): void {
    if (!this.#transport) return;
    for (const message of this.#connection.messagesToSend()) this.#transport.send(message);
  }

  #dial(dialers: readonly Dialer[], signal?: AbortSignal): Promise<void> {
    this.#dialing ??= this.#dialFirst(dialers, signal).finally(() => {
      this.#dialing = null;
    });
    return this.#dialing;
  }

  /** Opens the first transport that can be had; throws what the last one says. */
  async #dialFirst(dialers: readonly Dialer[], signal?: AbortSignal): Promise<void> {
    this.#setState("connecting");
    const signals = signal ? [signal, this.#closing.signal] : [this.#closing.signal];
    const stop = AbortSignal.any(signals);
    const failures: TabagentError[] = [];
    for (const dialer of dialers) {
      try {
        this.#attach(await this.#open(dialer, stop));
        return;
      } catch (error) {
        if (stop.aborted || !(error instanceof TabagentError)) {
          this.#setState("idle");
          throw stop.aborted ? stop.reason : error;
        }
        failures.push(error);
      }
    }
    this.#setState("idle");
    throw summary(failures);
  }

  async #open(dialer: Dialer, signal: AbortSignal): Promise<Transport> {
    signal.throwIfAborted();
    let own: Transport | null = null;
    own = await dialer.dial(
      {
        onMessage: (message) => {
          this.#connection.receive(message);
          this.#flush();
        },
        onClose: (reason) => {
          if (own !== null && own === this.#transport) this.#lost(reason);
        },
      },
      signal,
    );
    if (signal.aborted) own.close();
    signal.throwIfAborted();
    return own;
  }

  #attach(transport: Transport): void {
    this.#transport = transport;
    this.#connection.opened(transport.duplex);
    this.#pings = setInterval(() => {
      if (this.#connection.ping()) this.#flush();
      else this.#lost(connectionFailed("the server does not answer any more"));
    }, this.#pingInterval);
    this.#setState("open");
    this.#flush();
  }

  #lost(reason: TabagentError): void {
    const dialer = this.#dialers.find(({ kind }) => kind === this.#transport?.kind);
    this.#drop();
    this.#setState("idle");
    this.#connection.closed(reason);
    if (!this.#connection.busy || !dialer || this.#mending) return;
    this.#mending = true;
    void this.#mend(dialer, reason).finally(() => {
      this.#mending = false;
    });
  }

  /** Connects again in the same way: a response belongs to who asked for it, as a door knows it. */
  async #mend(dialer: Dialer, reason: TabagentError): Promise<void> {
    const deadline = performance.now() + this.#resumeWindow;
    for (let delay = FIRST_RETRY_MS; ; delay = Math.min(2 * delay, LONGEST_RETRY_MS)) {
      try {
        await this.#dial([dialer]);
        return;
      } catch {
        if (this.#closing.signal.aborted || !this.#connection.busy) return;
      }
      if (performance.now() + delay > deadline) {
        this.#connection.abandon(reason);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  #drop(): void {
    if (this.#pings !== null) clearInterval(this.#pings);
    this.#pings = null;
    this.#transport?.close();
    this.#transport = null;
  }

  #setState(state: ClientState): void {
    if (state === this.#state || this.#state === "closed") return;
    this.#state = state;
    this.#tell("state", state);
  }

  #tell<K extends keyof Listeners>(name: K, argument: Parameters<Listeners[K]>[0]): void {
    for (const listener of this.#listeners.get(name) ?? []) listener(argument as never);
  }
}

/** The server's own word before any other; else all that was tried. */
function summary(failures: TabagentError[]): TabagentError {
  const refusal = failures.find(({ code }) => code !== "connection_failed");
  if (refusal || failures.length === 1) return (refusal ?? failures[0]) as TabagentError;
  return connectionFailed(failures.map(({ message }) => message).join("; "), failures);
}
