/** The state of all requests of a client, across the transports that carry them; does no I/O. */

import { connectionLost, errorFrom, TabagentError } from "./errors.js";
import type { ResumePoint } from "./resume.js";
import {
  isTerminal,
  type Message,
  type ModelStateEvent,
  newId,
  type ResponseEvent,
} from "./wire.js";

/** Who takes the events of one response: any number of events, then `end` or `fail`, once. */
export interface ResponseSink {
  event(event: ResponseEvent): void;
  end(): void;
  fail(error: unknown): void;
}

/** Who takes the answer to a command, and what comes before it. */
export interface CommandSink {
  progress?(message: Message): void;
  answer(message: Message): void;
  fail(error: unknown): void;
}

/** Who is told what belongs to no request. */
export interface ConnectionListener {
  modelState(event: ModelStateEvent): void;
  error(error: TabagentError): void;
  /** What `resumePoints` returns has changed; `urgent` when a response came or went. */
  progress(urgent: boolean): void;
}

interface Response {
  /** The message that asks for it; null when it was asked for in another life of this program. */
  readonly create: Message | null;
  readonly streamId: string;
  readonly metadata: Record<string, string>;
  readonly resumable: boolean;
  readonly sink: ResponseSink;
  responseId: string | null;
  last: number;
  text: string;
  started: boolean;
  cancelled: boolean;
  /** Whether the consumer has been told the end, though the server has not. */
  muted: boolean;
  /** How often it was asked for without being acknowledged. */
  attempts: number;
}

const MAX_UNANSWERED_PINGS = 2;
const MAX_ATTEMPTS = 3;

/**
 * Rules:
 *
 * 1. Every request has a lane (`stream_id`) of its own, by which all that answers it is found.
 * 2. An event is passed on only if its number follows the last one: none is doubled or lost.
 * 3. A new transport is told everything that is unfinished: what was never acknowledged is asked
 *    for again, a few times, and what was is resumed after its last number.
 */
export class Connection {
  readonly #listener: ConnectionListener;
  readonly #responses = new Map<string, Response>();
  readonly #commands = new Map<string, { message: Message; sink: CommandSink }>();
  #outbox: Message[] = [];
  #isOpen = false;
  #duplex = true;
  #unansweredPings = 0;

  constructor(listener: ConnectionListener) {
    this.#listener = listener;
  }

  /** Whether a request waits for its answer. */
  get busy(): boolean {
    return this.#responses.size + this.#commands.size > 0;
  }

  /** Asks for a response; returns the name by which `cancel` knows it. */
  respond(body: Record<string, unknown>, resumable: boolean, sink: ResponseSink): string {
    const streamId = newId("stream_");
    const options = (body.tabagent ?? {}) as Record<string, unknown>;
    this.#begin({
      create: {
        ...body,
        type: "response.create",
        stream_id: streamId,
        tabagent: { ...options, events: true },
      },
      streamId,
      metadata: (body.metadata ?? {}) as Record<string, string>,
      resumable,
      sink,
      responseId: null,
      last: -1,
      text: "",
      started: false,
      cancelled: false,
      muted: false,
      attempts: 0,
    });
    return streamId;
  }

  /** Goes on with a response of a program that has ended. */
  resume(point: ResumePoint, sink: ResponseSink): string {
    this.#begin({
      create: null,
      streamId: point.stream_id,
      metadata: point.metadata,
      resumable: true,
      sink,
      responseId: point.response_id,
      last: point.starting_after,
      text: point.text,
      started: true,
      cancelled: false,
      muted: false,
      attempts: 0,
    });
    return point.stream_id;
  }

  /** Ends a response early; with `reason` its consumer hears that at once, else from the server. */
  cancel(streamId: string, reason?: unknown): void {
    const response = this.#responses.get(streamId);
    if (!response) return;
    if (reason !== undefined && !response.muted) {
      response.muted = true;
      response.sink.fail(reason);
    }
    if (response.cancelled) return;
    response.cancelled = true;
    this.#listener.progress(true);
    if (this.#isOpen) this.#outbox.push(cancelMessage(response));
    else if (response.responseId === null) this.#finish(response);
  }

  /** Ends every response, for the same reason. */
  cancelAll(reason: unknown): void {
    for (const streamId of [...this.#responses.keys()]) this.cancel(streamId, reason);
  }

  /**
   * Sends a message whose answer comes under the same `stream_id`; returns the name by which
   * `cancelCommand` knows it.
   */
  command(message: Message, sink: CommandSink): string {
    const streamId = newId("command_");
    const command = { message: { ...message, stream_id: streamId }, sink };
    this.#commands.set(streamId, command);
    if (this.#isOpen) this.#outbox.push(command.message);
    return streamId;
  }

  /** Ends a command early; its consumer hears why at once. */
  cancelCommand(streamId: string, reason: unknown): void {
    const command = this.#commands.get(streamId);
    if (!command) return;
    this.#commands.delete(streamId);
    if (this.#isOpen) this.#outbox.push({ type: "response.cancel", stream_id: streamId });
    command.sink.fail(reason);
  }

  /** Takes note of a new transport, and tells it all that is unfinished. */
  opened(duplex: boolean): void {
    this.#isOpen = true;
    this.#duplex = duplex;
    this.#unansweredPings = 0;
    this.#outbox = [];
    for (const response of [...this.#responses.values()]) {
      if (response.cancelled && response.responseId === null) this.#finish(response);
      else this.#ask(response);
    }
    for (const { message } of this.#commands.values()) this.#outbox.push(message);
  }

  /** Takes note that the transport has ended; fails what cannot go on with another one. */
  closed(reason: TabagentError): void {
    this.#isOpen = false;
    this.#outbox = [];
    for (const response of [...this.#responses.values()]) {
      const isBegun = response.responseId !== null;
      const canGoOn = isBegun ? response.resumable : response.attempts < MAX_ATTEMPTS;
      if (!canGoOn) this.#fail(response, reason);
    }
  }

  /** Fails everything: there will be no other transport. */
  abandon(reason: unknown): void {
    this.#isOpen = false;
    this.#outbox = [];
    for (const response of [...this.#responses.values()]) this.#fail(response, reason);
    const commands = [...this.#commands.values()];
    this.#commands.clear();
    for (const { sink } of commands) sink.fail(reason);
  }

  /** Asks whether the server is alive; returns false once it has kept silent for too long. */
  ping(): boolean {
    if (!this.#duplex) return true;
    if (this.#unansweredPings >= MAX_UNANSWERED_PINGS) return false;
    this.#unansweredPings += 1;
    this.#outbox.push({ type: "tabagent.ping" });
    return true;
  }

  /** Takes one whole message of the server. */
  receive(message: Message): void {
    this.#unansweredPings = 0;
    switch (message.type) {
      case "tabagent.ping":
        this.#outbox.push({ type: "tabagent.pong" });
        break;
      case "tabagent.model.state":
        this.#tellModelState(message as unknown as ModelStateEvent);
        break;
      case "error":
        this.#takeError(message);
        break;
      default:
        this.#takeAnswer(message);
    }
  }

  /** Returns, once each, the messages to send now. */
  messagesToSend(): Message[] {
    const messages = this.#outbox;
    this.#outbox = [];
    return messages;
  }

  /** Returns where the unfinished responses can be resumed from. */
  resumePoints(): ResumePoint[] {
    const points: ResumePoint[] = [];
    for (const response of this.#responses.values()) {
      const { responseId, resumable, cancelled, streamId, last, text, metadata } = response;
      if (responseId === null || !resumable || cancelled) continue;
      points.push({
        response_id: responseId,
        stream_id: streamId,
        starting_after: last,
        text,
        metadata,
      });
    }
    return points;
  }

  #begin(response: Response): void {
    if (this.#responses.has(response.streamId)) {
      throw new TypeError(`the response ${response.responseId} is being read already`);
    }
    this.#responses.set(response.streamId, response);
    if (this.#isOpen) this.#ask(response);
  }

  #ask(response: Response): void {
    const { create, responseId, streamId, last } = response;
    response.attempts += 1;
    if (responseId !== null) {
      this.#outbox.push({
        type: "response.resume",
        response_id: responseId,
        starting_after: last,
        stream_id: streamId,
      });
    } else if (create && response.resumable && this.#duplex) {
      const options = create.tabagent as Record<string, unknown>;
      this.#outbox.push({ ...create, tabagent: { ...options, resumable: true } });
    } else if (create) {
      this.#outbox.push(create);
    }
    if (response.cancelled) this.#outbox.push(cancelMessage(response));
  }

  #tellModelState(event: ModelStateEvent): void {
    this.#listener.modelState(event);
    for (const { started, muted, sink } of this.#responses.values()) {
      if (!started && !muted) sink.event(event);
    }
  }

  #takeError(message: Message): void {
    const text = "the server sent an error that cannot be read";
    const error = errorFrom(message, new TabagentError({ code: "invalid_message", message: text }));
    const isTooBig = error.code === "message_too_big";
    const streamId = (message.stream_id ?? (isTooBig ? this.#longest() : undefined)) as
      | string
      | undefined;
    if (streamId === undefined) {
      this.#listener.error(error);
      return;
    }
    const response = this.#responses.get(streamId);
    if (response) this.#fail(response, error);
    const command = this.#commands.get(streamId);
    this.#commands.delete(streamId);
    command?.sink.fail(error);
  }

  /** The longest request without an answer: the one that a server has not read for its size. */
  #longest(): string | undefined {
    const length = ({ create }: Response) => JSON.stringify(create).length;
    const waiting = [...this.#responses.values()].filter(({ responseId }) => responseId === null);
    return waiting.sort((a, b) => length(b) - length(a))[0]?.streamId;
  }

  #takeAnswer(message: Message): void {
    const streamId = message.stream_id as string;
    const command = this.#commands.get(streamId);
    if (command && message.type === "tabagent.model.pull.progress") {
      command.sink.progress?.(message);
      return;
    }
    if (command) {
      this.#commands.delete(streamId);
      command.sink.answer(message);
      return;
    }
    const response = this.#responses.get(streamId);
    if (response) this.#takeEvent(response, message as unknown as ResponseEvent);
  }

  #takeEvent(response: Response, event: ResponseEvent): void {
    if ("sequence_number" in event) {
      if (event.sequence_number <= response.last) return;
      if (event.sequence_number > response.last + 1) {
        const text = `event ${response.last + 1} of the response is missing`;
        this.#fail(response, connectionLost(text));
        return;
      }
      response.last = event.sequence_number;
    }
    if (event.type === "response.output_text.delta") response.text += event.delta;
    else if (event.type === "response.in_progress") response.started = true;
    else if (event.type === "response.created") response.responseId = event.response.id;
    if (!response.muted) response.sink.event(event);
    if (event.type === "response.failed") {
      const text = "the response failed without a reason";
      const fallback = new TabagentError({ code: "decode_failed", message: text });
      this.#fail(response, errorFrom(event.response, fallback));
    } else if (isTerminal(event)) {
      this.#finish(response);
    } else {
      this.#listener.progress(event.type === "response.created");
    }
  }

  #finish(response: Response): void {
    this.#responses.delete(response.streamId);
    if (!response.muted) response.sink.end();
    this.#listener.progress(true);
  }

  #fail(response: Response, error: unknown): void {
    this.#responses.delete(response.streamId);
    if (!response.muted) response.sink.fail(error);
    this.#listener.progress(true);
  }
}

function cancelMessage({ responseId, streamId }: Response): Message {
  const cancel = { type: "response.cancel", stream_id: streamId };
  return responseId === null ? cancel : { ...cancel, response_id: responseId };
}
