/** The Prompt API's shape on the real server. */

import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { WebSocket } from "ws";
import { type Client, connect, languageModel } from "../src/index.js";
import { ANSWER } from "./server.js";

const url = inject("url");
let client: Client;

beforeAll(async () => {
  client = await connect({ url, WebSocket, via: "ws" });
});

afterAll(() => client.close());

const create = (options: object = {}) =>
  languageModel(client).create({ temperature: 0, topK: 1, ...options });

async function read(stream: ReadableStream<string>): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

describe("LanguageModel", () => {
  it("is available when the model is ready", async () => {
    expect(await languageModel({ url, WebSocket }).availability()).toBe("available");
  });

  it("is unavailable without a server, without the model, and for other input than text", async () => {
    const nowhere = languageModel({ url: "http://127.0.0.1:9", WebSocket });
    expect(await nowhere.availability()).toBe("unavailable");
    expect(await languageModel(client, { model: "nobody" }).availability()).toBe("unavailable");
    const expectedInputs = [{ type: "image" }];
    expect(await languageModel(client).availability({ expectedInputs })).toBe("unavailable");
  });

  it("loads its model and tells how far it is", async () => {
    await client.models.unload("chain");
    const model = languageModel(client, { model: "chain" });
    expect(await model.availability()).toBe("downloadable");
    const loaded: number[] = [];
    const monitor = (target: EventTarget) =>
      target.addEventListener("downloadprogress", (event) => {
        loaded.push((event as unknown as { loaded: number }).loaded);
      });
    const session = await model.create({ monitor, temperature: 0 });
    expect(loaded.at(0)).toBe(0);
    expect(loaded.at(-1)).toBe(1);
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b));
    expect(await session.prompt("Count!")).toBe(ANSWER);
  });

  it("refuses what the server has not", async () => {
    await expect(create({ tools: [{}] })).rejects.toMatchObject({ name: "NotSupportedError" });
    await expect(languageModel(client, { model: "nobody" }).create()).rejects.toMatchObject({
      name: "NotSupportedError",
    });
  });
});

describe("a session", () => {
  it("answers a prompt", async () => {
    expect(await (await create()).prompt("Count!")).toBe(ANSWER);
  });

  it("answers piece by piece", async () => {
    const pieces = await read((await create()).promptStreaming("Count!"));
    expect(pieces.join("")).toBe(ANSWER);
    expect(pieces.length).toBeGreaterThan(1);
  });

  it("takes messages, and text in parts", async () => {
    const session = await create({
      initialPrompts: [{ role: "system", content: "You count." }],
    });
    expect(session.contextUsage).toBeGreaterThan(0);
    const content = [
      { type: "text" as const, value: "Cou" },
      { type: "text" as const, value: "nt!" },
    ];
    expect(await session.prompt([{ role: "user", content }])).toBe(ANSWER);
  });

  it("remembers the conversation, and counts it", async () => {
    const session = await create();
    expect(session.contextUsage).toBe(0);
    const alone = await session.measureContextUsage("Count!");
    expect(alone).toBeGreaterThan(0);
    await session.prompt("Count!");
    const before = session.contextUsage;
    expect(before).toBeGreaterThanOrEqual(alone + 300);
    await session.append("Count again!");
    expect(session.contextUsage).toBeGreaterThan(before);
    expect(session.contextUsage).toBeLessThan(session.contextWindow);
  });

  it("answers prompts one after the other", async () => {
    const session = await create();
    const answers = [session.prompt("One!"), session.prompt("Two!")];
    expect(await Promise.all(answers)).toEqual([ANSWER, ANSWER]);
  });

  it("forgets the oldest turns when the context is full, and says so", async () => {
    const session = await create();
    const overflows: string[] = [];
    session.oncontextoverflow = ({ type }) => overflows.push(type);
    session.onquotaoverflow = ({ type }) => overflows.push(type);
    const half = "word ".repeat(Math.floor(session.contextWindow / 8));
    await session.append(half);
    const usage = session.contextUsage;
    for (let more = usage; more < session.contextWindow; more += usage) await session.append(half);
    expect(overflows).toEqual(["contextoverflow", "quotaoverflow"]);
    expect(session.contextUsage).toBeLessThan(session.contextWindow);
  });

  it("rejects a prompt that can never fit", async () => {
    const session = await create();
    await expect(session.prompt("word ".repeat(5000))).rejects.toMatchObject({
      name: "QuotaExceededError",
    });
  });

  it("can be cloned, and the clones go their own ways", async () => {
    const session = await create();
    await session.append("Hello");
    const clone = await session.clone();
    expect(clone.contextUsage).toBe(session.contextUsage);
    await clone.append("More");
    expect(clone.contextUsage).toBeGreaterThan(session.contextUsage);
  });

  it("stops when the signal aborts, and goes on with the next prompt", async () => {
    const session = await create();
    const controller = new AbortController();
    const stream = session.promptStreaming("Count!", { signal: controller.signal });
    const reader = stream.getReader();
    await reader.read();
    controller.abort();
    const rest = async () => {
      while (!(await reader.read()).done);
    };
    await expect(rest()).rejects.toMatchObject({ name: "AbortError" });
    expect(await session.prompt("Count!")).toBe(ANSWER);
  });

  it("goes on after a stream that nobody reads to its end", async () => {
    const session = await create();
    const reader = session.promptStreaming("Count!").getReader();
    await reader.read();
    await reader.cancel();
    expect(await session.prompt("Count!")).toBe(ANSWER);
  });

  it("ends what it answers when it is destroyed, and takes no more", async () => {
    const session = await create();
    const reader = session.promptStreaming("Count!").getReader();
    await reader.read();
    session.destroy();
    const rest = async () => {
      while (!(await reader.read()).done);
    };
    await expect(rest()).rejects.toMatchObject({ name: "AbortError" });
    await expect(session.prompt("Count!")).rejects.toMatchObject({ name: "InvalidStateError" });
  });

  it.each([
    ["NotSupportedError", [{ role: "assistant", content: "Hm", prefix: true }]],
    ["NotSupportedError", [{ role: "system", content: "late" }]],
    ["NotSupportedError", [{ role: "user", content: [{ type: "image", value: "x" }] }]],
    ["TypeError", [{ role: "robot", content: "x" }]],
    ["TypeError", 7],
  ])("rejects with %s what it cannot take: %j", async (name, prompt) => {
    const session = await create();
    await expect(session.prompt(prompt as never)).rejects.toMatchObject({ name });
  });
});
