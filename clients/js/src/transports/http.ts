/** HTTP: each request for itself, answers as server-sent events; where no socket can be had. */

import { connectionLost, errorFrom, TabagentError } from "../errors.js";
import { body, request, type ServerAddress, unreadable } from "../request.js";
import { EventStreamParser } from "../sse.js";
import type { Dialer, Transport, TransportListener } from "../transport.js";
import { isTerminal, type Message, type ResponseEvent, type ResponseObject } from "../wire.js";

const MODEL_ROUTES: Record<string, string> = {
  "tabagent.model.load": "/v1/models/load",
  "tabagent.model.unload": "/v1/models/unload",
};

/** Returns what speaks to the server's HTTP routes. */
export function httpDialer(server: ServerAddress): Dialer {
  return {
    kind: "http",
    dial: async (listener, signal) => {
      await askAdmission(server, signal);
      return new HttpTransport(server, listener);
    },
  };
}

/**
 * Resolves when the server lets us in; rejects with its reason, or with `connection_failed`.
 *
 * It asks with a request for an answer because that is judged as one: a browser puts no `Origin`
 * on an extension's `GET`. The request names no input, so that nothing is generated.
 */
export async function askAdmission(server: ServerAddress, signal: AbortSignal): Promise<void> {
  const response = await request(server, "/v1/responses", { body: {}, signal });
  const error = errorFrom(await body(response), unreadable(response));
  if (error.code !== "invalid_parameter") throw error;
}

class HttpTransport implements Transport {
  readonly kind = "http";
  readonly duplex = false;
  readonly #server: ServerAddress;
  readonly #listener: TransportListener;
  readonly #streams = new Map<string, EventStream>();
  readonly #pulls = new Map<string, AbortController>();
  readonly #closing = new AbortController();

  constructor(server: ServerAddress, listener: TransportListener) {
    this.#server = server;
    this.#listener = listener;
  }

  send(message: Message): void {
    if (message.type === "response.cancel") this.#cancel(message.stream_id as string);
    else if (!this.#closing.signal.aborted) void this.#run(message);
  }

  close(): void {
    this.#closing.abort();
    for (const stream of this.#streams.values()) stream.leave();
    for (const pull of this.#pulls.values()) pull.abort();
  }

  async #run(message: Message): Promise<void> {
    try {
      if (message.type === "response.create") await this.#respond(message);
      else if (message.type === "tabagent.model.pull") await this.#pull(message);
      else this.#tell(await this.#command(message), message);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      const known = error instanceof TabagentError ? error : connectionLost(String(error), error);
      this.#tell({ type: "error", error: known.details }, message);
    }
  }

  async #command(message: Message): Promise<Message> {
    const route = MODEL_ROUTES[message.type];
    if (route) {
      const model = await this.#ask(route, { model: message.model });
      return { type: message.type, model };
    }
    if (message.type === "tabagent.model.delete") {
      const path = `/v1/models/${encodeURIComponent(String(message.model))}`;
      await this.#ask(path, undefined, "DELETE");
      return { type: message.type };
    }
    if (message.type === "tabagent.ping") {
      await request(this.#server, "/health", { signal: this.#closing.signal });
      return { type: "tabagent.pong" };
    }
    if (message.type !== "tabagent.model.list") {
      throw new TabagentError({ code: "not_supported", message: `no ${message.type} over HTTP` });
    }
    const { data } = (await this.#ask("/v1/models")) as { data: unknown };
    return { type: message.type, data };
  }

  async #respond(message: Message): Promise<void> {
    const { type: _, ...fields } = message;
    const streamId = message.stream_id as string;
    const stream = new EventStream();
    this.#streams.set(streamId, stream);
    try {
      const options = { body: { ...fields, stream: true }, signal: stream.signal };
      const response = await request(this.#server, "/v1/responses", options);
      if (!response.ok) throw errorFrom(await body(response), unreadable(response));
      for await (const event of stream.read(response)) this.#tell(event, message);
      if (!stream.hasEnded) throw connectionLost("the answer was cut off");
    } catch (error) {
      if (!stream.signal.aborted) throw error;
    } finally {
      this.#streams.delete(streamId);
    }
  }

  /** Tells the events of a download; leaving it is what cancels it at the server. */
  async #pull({ model, stream_id, type }: Message): Promise<void> {
    const leaving = new AbortController();
    this.#pulls.set(stream_id as string, leaving);
    try {
      const options = { body: { model, stream: true }, signal: leaving.signal };
      const response = await request(this.#server, "/v1/models/pull", options);
      if (!response.ok) throw errorFrom(await body(response), unreadable(response));
      let last: Message | null = null;
      for await (const event of eventsOf(response)) {
        last = event;
        this.#tell(event, { type, stream_id });
      }
      if (last?.type !== type && last?.type !== "error") throw connectionLost("it was cut off");
    } catch (error) {
      if (!leaving.signal.aborted) throw error;
    } finally {
      this.#pulls.delete(stream_id as string);
    }
  }

  #cancel(streamId: string): void {
    this.#pulls.get(streamId)?.abort();
    const stream = this.#streams.get(streamId);
    if (!stream) return;
    this.#streams.delete(streamId);
    stream.leave();
    this.#tell(stream.cancelled(), { type: "response.create", stream_id: streamId });
  }

  async #ask(path: string, fields?: object, method?: string): Promise<unknown> {
    const { signal } = this.#closing;
    const options = { signal, ...(fields && { body: fields }), ...(method && { method }) };
    const response = await request(this.#server, path, options);
    const answer = await body(response);
    if (!response.ok) throw errorFrom(answer, unreadable(response));
    return answer;
  }

  #tell(answer: Message, request: Message): void {
    this.#listener.onMessage({ ...answer, stream_id: request.stream_id });
  }
}

/** Yields the events of a body as they come. */
async function* eventsOf(response: Response): AsyncGenerator<Message, void, undefined> {
  const parser = new EventStreamParser();
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    for (const data of parser.receive(decoder.decode(read.value, { stream: true }))) {
      yield JSON.parse(data) as Message;
    }
  }
}

/** The events of one answer. Leaving it is what cancels it at the server. */
class EventStream {
  readonly #leaving = new AbortController();
  #response: ResponseObject | null = null;
  #number = -1;
  hasEnded = false;

  get signal(): AbortSignal {
    return this.#leaving.signal;
  }

  leave(): void {
    this.#leaving.abort();
  }

  async *read(response: Response): AsyncGenerator<Message, void, undefined> {
    for await (const message of eventsOf(response)) {
      const event = message as unknown as ResponseEvent;
      if ("response" in event) this.#response = event.response;
      if ("sequence_number" in event) this.#number = event.sequence_number;
      this.hasEnded ||= isTerminal(event);
      yield message;
    }
  }

  /** Returns the last event of an answer that was left, as a lasting connection would send it. */
  cancelled(): Message {
    const incomplete_details = { reason: "cancelled" };
    return {
      type: "response.incomplete",
      sequence_number: this.#number + 1,
      response: { ...this.#response, status: "cancelled", incomplete_details },
    };
  }
}
