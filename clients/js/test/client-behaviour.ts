/** What a client does, whatever its transport; runs in Node and in browsers. */

import { afterEach, expect, it } from "vitest";
import {
  type Client,
  type ConnectOptions,
  connect,
  TabagentError,
  type TransportKind,
} from "../src/index.js";
import { ANSWER } from "./answer.js";

/** Describes what a client does over any transport. */
export function behavesAsAClient(options: ConnectOptions & { via: TransportKind }): void {
  const { via } = options;
  const clients: Client[] = [];

  async function open(more: ConnectOptions = {}): Promise<Client> {
    const client = await connect({ ...options, ...more });
    clients.push(client);
    return client;
  }

  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
  });

  it("answers with the model's text", async () => {
    const client = await open();
    expect(client.transport).toBe(via);
    expect(await client.respond({ input: "Count!", temperature: 0 }).text()).toBe(ANSWER);
  });

  it("yields typed events, numbered without a gap", async () => {
    const client = await open();
    const types: string[] = [];
    const numbers: number[] = [];
    let text = "";
    for await (const event of client.respond({ input: "Count!", temperature: 0 })) {
      types.push(event.type);
      if ("sequence_number" in event) numbers.push(event.sequence_number);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    expect(text).toBe(ANSWER);
    expect(types[0]).toBe("response.created");
    expect(types.at(-1)).toBe("response.completed");
    expect(numbers).toEqual(numbers.map((_, index) => index));
  });

  it("yields the text piece by piece, and keeps it", async () => {
    const client = await open();
    const stream = client.respond({ input: "Count!", temperature: 0 });
    const pieces: string[] = [];
    for await (const piece of stream.textStream()) pieces.push(piece);
    expect(pieces.join("")).toBe(ANSWER);
    expect(pieces.length).toBeGreaterThan(1);
    expect(stream.received).toBe(ANSWER);
    expect(await stream.text()).toBe(ANSWER);
  });

  it("tells at the end what was used", async () => {
    const client = await open();
    const response = await client.respond({ input: "Count!", max_output_tokens: 5 }).completed();
    expect(response.status).toBe("incomplete");
    expect(response.incomplete_details).toEqual({ reason: "max_output_tokens" });
    expect(response.usage?.output_tokens).toBe(5);
    expect(response.timings?.predicted_n).toBe(5);
  });

  it("runs two answers at once and keeps them apart", async () => {
    const client = await open();
    const streams = [1, 2].map(() => client.respond({ input: "Count!", temperature: 0 }));
    expect(await Promise.all(streams.map((stream) => stream.text()))).toEqual([ANSWER, ANSWER]);
    expect(streams[0]?.id).not.toBe(streams[1]?.id);
  });

  it("rejects with the reason when its signal aborts", async () => {
    const client = await open();
    const controller = new AbortController();
    const stream = client.respond(
      { input: "Count!", ignore_eos: true },
      { signal: controller.signal },
    );
    const reason = new Error("enough");
    const read = async () => {
      for await (const _ of stream.textStream()) controller.abort(reason);
    };
    await expect(read()).rejects.toBe(reason);
    await expect(stream.text()).rejects.toBe(reason);
  });

  it("does not ask at all when its signal has aborted before", async () => {
    const client = await open();
    const stream = client.respond({ input: "Count!" }, { signal: AbortSignal.abort("no") });
    await expect(stream.text()).rejects.toBe("no");
    expect(stream.id).toBeNull();
  });

  it("keeps what has come when it is cancelled", async () => {
    const client = await open();
    const stream = client.respond({ input: "Count!", temperature: 0, ignore_eos: true });
    for await (const _ of stream.textStream()) stream.cancel();
    const response = await stream.completed();
    expect(response.status).toBe("cancelled");
    const text = await stream.text();
    expect(text.length).toBeGreaterThan(0);
    expect(text.slice(0, ANSWER.length)).toBe(ANSWER.slice(0, text.length));
  });

  it("cancels an answer whose reader leaves, and goes on", async () => {
    const client = await open();
    const stream = client.respond({ input: "Count!", ignore_eos: true });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    expect((await stream.completed()).status).toBe("cancelled");
    expect(await client.respond({ input: "Count!", temperature: 0 }).text()).toBe(ANSWER);
  });

  it.each([
    ["model_not_found", { input: "Hi", model: "nobody" }],
    ["invalid_parameter", { input: "Hi", temperature: -1 }],
    ["message_too_big", { input: "x".repeat(2 * 1024 * 1024) }],
    ["context_length_exceeded", { input: "Hi ".repeat(20_000) }],
  ])("rejects with the code %s and goes on", async (code, request) => {
    const client = await open();
    const failure = await client
      .respond(request)
      .text()
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TabagentError);
    expect((failure as TabagentError).code).toBe(code);
    expect(await client.respond({ input: "Count!", max_output_tokens: 1 }).text()).not.toBe("");
  });

  it("counts a prompt's tokens without an answer", async () => {
    const client = await open();
    const response = await client.respond({ input: "Count!", generate: false }).completed();
    expect(response.status).toBe("completed");
    expect(response.output).toEqual([]);
    expect(response.usage?.input_tokens).toBeGreaterThan(0);
  });

  it("unloads and loads a model", async () => {
    const client = await open();
    expect((await client.models.unload("chain")).state).toBe("unloaded");
    const refusal = await client
      .respond({ input: "Hi" })
      .text()
      .catch((error: unknown) => error);
    expect((refusal as TabagentError).code).toBe("model_not_found");
    expect((await client.models.load("chain")).state).toBe("ready");
    const [model] = await client.models.list();
    expect(model).toMatchObject({ id: "chain", state: "ready" });
    expect(model?.context_length).toBeGreaterThan(0);
  });

  it("rejects a command with its code", async () => {
    const client = await open();
    await expect(client.models.load("nobody")).rejects.toMatchObject({ code: "model_not_found" });
  });

  it("measures a round trip", async () => {
    const client = await open();
    expect(await client.ping()).toBeGreaterThan(0);
  });

  it("rejects when nobody listens", async () => {
    const nowhere = open({ url: "http://127.0.0.1:9" });
    await expect(nowhere).rejects.toMatchObject({ code: "connection_failed" });
  });

  it("ends everything when it is closed", async () => {
    const client = await open();
    const stream = client.respond({ input: "Count!", ignore_eos: true });
    for await (const event of stream) {
      if (event.type !== "response.output_text.delta") continue;
      client.close();
      break;
    }
    await expect(stream.text()).rejects.toMatchObject({ name: "AbortError" });
    expect(client.state).toBe("closed");
    await expect(client.models.list()).rejects.toMatchObject({ name: "AbortError" });
  });
}
