/** The rules of a connection, without one: the peer here keeps a log, as the server does. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Connection, type ResponseSink } from "../src/connection.js";
import { connectionLost, TabagentError } from "../src/errors.js";
import type { Message, ResponseEvent } from "../src/wire.js";

class Reader implements ResponseSink {
  readonly numbers: number[] = [];
  readonly tabagentEvents: string[] = [];
  text = "";
  ends = 0;
  failure: unknown = null;

  event(event: ResponseEvent): void {
    if ("sequence_number" in event) this.numbers.push(event.sequence_number);
    else this.tabagentEvents.push(event.type);
    if (event.type === "response.output_text.delta") this.text += event.delta;
  }

  end(): void {
    this.ends += 1;
  }

  fail(error: unknown): void {
    this.failure = error;
  }
}

/** Answers each request with a log of its own, from wherever it is asked to. */
class Peer {
  readonly #logs = new Map<string, Message[]>();
  readonly #pieces: string[];
  requests = 0;

  constructor(pieces: string[]) {
    this.#pieces = pieces;
  }

  answer(message: Message): Message[] {
    if (message.type === "response.create") {
      this.requests += 1;
      const id = `resp_${this.requests}`;
      this.#logs.set(id, this.#log(id, message.stream_id as string));
      return this.#logs.get(id) ?? [];
    }
    if (message.type !== "response.resume") return [];
    const log = this.#logs.get(message.response_id as string) ?? [];
    return log.slice((message.starting_after as number) + 1);
  }

  #log(id: string, stream_id: string): Message[] {
    const response = { id, status: "completed" };
    const events = [
      { type: "response.created", response },
      { type: "response.in_progress", response },
      ...this.#pieces.map((delta) => ({ type: "response.output_text.delta", delta })),
      { type: "response.completed", response },
    ];
    return events.map((event, sequence_number) => ({ ...event, stream_id, sequence_number }));
  }
}

const nobody = { modelState: () => {}, error: () => {}, progress: () => {} };
const lost = connectionLost("cut");

function pair(pieces: string[] = ["a", "b", "c"]) {
  const connection = new Connection(nobody);
  const reader = new Reader();
  return { connection, reader, peer: new Peer(pieces) };
}

const exchange = (connection: Connection, peer: Peer) =>
  connection.messagesToSend().flatMap((message) => peer.answer(message));

describe("a response", () => {
  it("comes whole and in order however often the connection is cut", () => {
    const anyCuts = fc.array(fc.nat({ max: 12 }), { maxLength: 8 });
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 10 }), anyCuts, (pieces, cuts) => {
        const { connection, reader, peer } = pair(pieces);
        connection.respond({ input: "x" }, true, reader);
        for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
          connection.opened(true);
          for (const event of exchange(connection, peer).slice(0, cut)) connection.receive(event);
          connection.closed(lost);
        }
        expect(reader.failure).toBeNull();
        expect(reader.ends).toBe(1);
        expect(reader.text).toBe(pieces.join(""));
        expect(reader.numbers).toEqual(reader.numbers.map((_, index) => index));
        expect(connection.busy).toBe(false);
      }),
    );
  });

  it("comes whole in a new program that has its resume point", () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 10 }), fc.nat(), (pieces, where) => {
        const { connection, reader, peer } = pair(pieces);
        connection.respond({ input: "x", metadata: { chat: "7" } }, true, reader);
        connection.opened(true);
        const events = exchange(connection, peer);
        for (const event of events.slice(0, 1 + (where % (events.length - 1)))) {
          connection.receive(event);
        }
        const [point] = JSON.parse(JSON.stringify(connection.resumePoints()));
        const next = new Connection(nobody);
        const heir = new Reader();
        next.opened(true);
        next.resume(point, heir);
        for (const event of exchange(next, peer)) next.receive(event);
        expect(point.text + heir.text).toBe(pieces.join(""));
        expect(point.metadata).toEqual({ chat: "7" });
        expect(heir.ends).toBe(1);
      }),
    );
  });

  it("drops events that it has had", () => {
    const { connection, reader, peer } = pair();
    connection.respond({ input: "x" }, true, reader);
    connection.opened(true);
    for (const event of exchange(connection, peer).flatMap((event) => [event, event])) {
      connection.receive(event);
    }
    expect(reader.text).toBe("abc");
  });

  it("fails when an event is missing", () => {
    const { connection, reader, peer } = pair();
    connection.respond({ input: "x" }, true, reader);
    connection.opened(true);
    const [created, , third] = exchange(connection, peer) as [Message, Message, Message];
    connection.receive(created);
    connection.receive(third);
    expect(reader.failure).toMatchObject({ code: "connection_lost" });
  });

  it("that is not resumable fails when the connection is lost in its midst", () => {
    const { connection, reader, peer } = pair();
    connection.respond({ input: "x" }, false, reader);
    connection.opened(true);
    connection.receive(exchange(connection, peer)[0] as Message);
    connection.closed(lost);
    expect(reader.failure).toBe(lost);
    expect(connection.busy).toBe(false);
  });

  it("asks to be resumable on a lasting connection only", () => {
    const { connection, reader } = pair();
    connection.respond({ input: "x" }, true, reader);
    connection.opened(true);
    expect(connection.messagesToSend()[0]?.tabagent).toEqual({ events: true, resumable: true });
    connection.opened(false);
    expect(connection.messagesToSend()[0]?.tabagent).toEqual({ events: true });
  });

  it("that was cancelled before it was sent is never sent", () => {
    const { connection, reader } = pair();
    const name = connection.respond({ input: "x" }, true, reader);
    connection.cancel(name);
    connection.opened(true);
    expect(connection.messagesToSend()).toEqual([]);
    expect(reader.ends).toBe(1);
  });

  it("that was cancelled while the connection was lost is cancelled on the next", () => {
    const { connection, reader, peer } = pair();
    const name = connection.respond({ input: "x" }, true, reader);
    connection.opened(true);
    connection.receive(exchange(connection, peer)[0] as Message);
    connection.closed(lost);
    connection.cancel(name);
    connection.opened(true);
    const types = connection.messagesToSend().map(({ type }) => type);
    expect(types).toEqual(["response.resume", "response.cancel"]);
  });

  it("that is never acknowledged is given up after a few connections", () => {
    const { connection, reader } = pair();
    connection.respond({ input: "x" }, true, reader);
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      expect(reader.failure).toBeNull();
      connection.opened(true);
      expect(connection.messagesToSend()).toHaveLength(1);
      connection.closed(lost);
    }
    expect(reader.failure).toBe(lost);
  });

  it("is the one that a server refuses unread when it is the longest", () => {
    const { connection, reader: short } = pair();
    const long = new Reader();
    connection.respond({ input: "x" }, true, short);
    connection.respond({ input: "xxx" }, true, long);
    connection.opened(true);
    connection.receive({ type: "error", error: { code: "message_too_big", message: "no" } });
    expect(long.failure).toMatchObject({ code: "message_too_big" });
    expect(short.failure).toBeNull();
  });

  it("is told about models only while it waits for one", () => {
    const { connection, reader, peer } = pair();
    connection.respond({ input: "x" }, true, reader);
    connection.opened(true);
    const [created, started] = exchange(connection, peer) as [Message, Message];
    const state = { type: "tabagent.model.state", model: "m", state: "loading", progress: 0.5 };
    for (const message of [created, state, started, state]) connection.receive(message);
    expect(reader.tabagentEvents).toEqual(["tabagent.model.state"]);
  });

  it("that failed throws the server's reason", () => {
    const { connection, reader, peer } = pair();
    connection.respond({ input: "x" }, true, reader);
    connection.opened(true);
    const created = exchange(connection, peer)[0] as Message;
    connection.receive(created);
    const error = { code: "out_of_memory", message: "no memory" };
    connection.receive({
      type: "response.failed",
      sequence_number: 1,
      stream_id: created.stream_id,
      response: { id: "resp_1", status: "failed", error },
    });
    expect(reader.numbers).toEqual([0, 1]);
    expect(reader.failure).toMatchObject({ code: "out_of_memory", message: "no memory" });
  });

  it("cannot be resumed twice at a time", () => {
    const { connection, reader } = pair();
    const point = {
      response_id: "resp_1",
      stream_id: "stream_1",
      starting_after: 0,
      text: "",
      metadata: {},
    };
    connection.resume(point, reader);
    expect(() => connection.resume(point, reader)).toThrow(TypeError);
  });
});

describe("a command", () => {
  const command = (connection: Connection) =>
    new Promise<Message>((resolve, reject) => {
      connection.command({ type: "tabagent.model.list" }, { answer: resolve, fail: reject });
    });

  it("is asked again when the connection is lost before its answer", async () => {
    const connection = new Connection(nobody);
    const answer = command(connection);
    connection.opened(true);
    const [first] = connection.messagesToSend();
    connection.closed(lost);
    connection.opened(true);
    const [second] = connection.messagesToSend();
    expect(second).toEqual(first);
    connection.receive({ type: "tabagent.model.list", data: [], stream_id: second?.stream_id });
    expect((await answer).data).toEqual([]);
  });

  it("fails with the server's error", async () => {
    const connection = new Connection(nobody);
    const answer = command(connection);
    connection.opened(true);
    const [sent] = connection.messagesToSend();
    const error = { code: "scope_required", message: "no" };
    connection.receive({ type: "error", error, stream_id: sent?.stream_id });
    await expect(answer).rejects.toBeInstanceOf(TabagentError);
  });
});

describe("a connection", () => {
  it("answers pings", () => {
    const connection = new Connection(nobody);
    connection.opened(true);
    connection.receive({ type: "tabagent.ping" });
    expect(connection.messagesToSend()).toEqual([{ type: "tabagent.pong" }]);
  });

  it("is dead when two pings in a row are met by silence", () => {
    const connection = new Connection(nobody);
    connection.opened(true);
    expect([connection.ping(), connection.ping(), connection.ping()]).toEqual([true, true, false]);
  });

  it("lives while anything arrives", () => {
    const connection = new Connection(nobody);
    connection.opened(true);
    for (let round = 0; round < 5; round += 1) {
      expect(connection.ping()).toBe(true);
      connection.receive({ type: "tabagent.pong" });
    }
  });

  it("reports errors that belong to no request", () => {
    const errors: TabagentError[] = [];
    const connection = new Connection({ ...nobody, error: (error) => errors.push(error) });
    connection.receive({ type: "error", error: { code: "invalid_message", message: "what?" } });
    expect(errors).toMatchObject([{ code: "invalid_message" }]);
  });

  it("ignores what it does not know", () => {
    const connection = new Connection(nobody);
    connection.receive({ type: "tabagent.surprise", stream_id: "nobody" });
    expect(connection.messagesToSend()).toEqual([]);
  });
});
