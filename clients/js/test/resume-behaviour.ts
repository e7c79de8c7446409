/** A connection that breaks while answers are under way; runs in Node and in browsers. */

import { afterEach, beforeEach, expect, it } from "vitest";
import { type Client, type ConnectOptions, connect } from "../src/index.js";
import { ANSWER } from "./answer.js";

const COUNT = { input: "Count!", temperature: 0 };
/** Makes an answer of some 100 kB, however many tokens go into an event. */
const VERBOSE = { include: ["message.output_text.logprobs"], top_logprobs: 5 };

/** A way to the server that a test can break. */
export interface Line {
  /** How to connect over it. */
  readonly options: ConnectOptions;
  /** Bytes of answers to let through, over all connections, before the next cut. */
  cutAfter: number;
  /** Connections made so far. */
  readonly connections: number;
  /** Cuts every connection, without a goodbye. */
  cut(): void;
  /** Lets nothing through any more on the connections that are there, without ending them. */
  stall(): void;
  close(): Promise<void>;
}

/** Describes what happens to answers when their line breaks. */
export function losesNothing(openLine: () => Promise<Line>): void {
  let line: Line;
  const clients: Client[] = [];

  beforeEach(async () => {
    line = await openLine();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await line.close();
  });

  async function open(options: ConnectOptions = {}): Promise<Client> {
    const client = await connect({ ...line.options, ...options });
    clients.push(client);
    return client;
  }

  it.each([1, 300, 1_000, 2_500, 5_000, 10_000, 50_000])(
    "after %i bytes loses no token and doubles none",
    async (bytes) => {
      const client = await open();
      line.cutAfter = bytes;
      const numbers: number[] = [];
      let text = "";
      for await (const event of client.respond({ ...COUNT, ...VERBOSE })) {
        if ("sequence_number" in event) numbers.push(event.sequence_number);
        if (event.type === "response.output_text.delta") text += event.delta;
      }
      expect(text).toBe(ANSWER);
      expect(numbers).toEqual(numbers.map((_, index) => index));
      expect(line.connections).toBe(2);
    },
  );

  it("again and again loses no token either", async () => {
    const client = await open();
    let text = "";
    let pieces = 0;
    for await (const piece of client.respond(COUNT).textStream()) {
      text += piece;
      pieces += 1;
      if (pieces % 5 === 0 && pieces <= 25) line.cut();
    }
    expect(text).toBe(ANSWER);
    expect(line.connections).toBeGreaterThan(1);
  });

  it("that only fell silent is noticed by unanswered pings, and mended", async () => {
    const client = await open({ pingInterval: 50 });
    let text = "";
    for await (const piece of client.respond(COUNT).textStream()) {
      if (text === "") line.stall();
      text += piece;
    }
    expect(text).toBe(ANSWER);
    expect(line.connections).toBeGreaterThan(1);
  });

  it("harms none of several answers", async () => {
    const client = await open();
    const streams = [1, 2, 3].map(() => client.respond(COUNT));
    line.cutAfter = 8_000;
    const texts = await Promise.all(streams.map((stream) => stream.text()));
    expect(texts).toEqual([ANSWER, ANSWER, ANSWER]);
  });

  it("ends an answer that is not resumable", async () => {
    const client = await open();
    const stream = client.respond({ ...COUNT, ignore_eos: true }, { resumable: false });
    const read = async () => {
      for await (const _ of stream.textStream()) line.cut();
    };
    await expect(read()).rejects.toMatchObject({ code: "connection_lost" });
  });

  it("lets an aborted answer stay aborted", async () => {
    const client = await open();
    const controller = new AbortController();
    const stream = client.respond({ ...COUNT, ignore_eos: true }, { signal: controller.signal });
    const read = async () => {
      for await (const _ of stream.textStream()) {
        line.cut();
        controller.abort("enough");
      }
    };
    await expect(read()).rejects.toBe("enough");
    expect(await client.respond(COUNT).text()).toBe(ANSWER);
  });

  it("is mended when the next request comes, if nothing was under way", async () => {
    const client = await open();
    const idle = new Promise<void>((resolve) => {
      client.on("state", (state) => state === "idle" && resolve());
    });
    line.cut();
    await idle;
    expect(await client.respond(COUNT).text()).toBe(ANSWER);
    expect(line.connections).toBe(2);
  });
}
