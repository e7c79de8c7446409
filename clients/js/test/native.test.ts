/** Native messaging through the installed host to the server that it starts. */

import { once } from "node:events";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { type Client, connect } from "../src/index.js";
import { installHost, Runtime } from "./native-host.js";
import { ANSWER, Home } from "./server.js";

const COUNT = { input: "Count!", temperature: 0 };
const home = new Home();
let runtime: Runtime;
let client: Client;

beforeAll(() => installHost(home));

afterAll(() => {
  home.run("stop");
  home.remove();
});

afterEach(() => client?.close());

async function open(): Promise<Client> {
  runtime = new Runtime(home);
  client = await connect({ via: "native", runtime });
  return client;
}

it("starts the server and streams", async () => {
  const stream = (await open()).respond(COUNT);
  let pieces = 0;
  for await (const _ of stream.textStream()) pieces += 1;
  expect(client.transport).toBe("native");
  expect(stream.received).toBe(ANSWER);
  expect(pieces).toBeGreaterThan(1);
});

it("is what auto chooses where there is native messaging", async () => {
  runtime = new Runtime(home);
  client = await connect({ runtime });
  expect(client.transport).toBe("native");
});

it("carries many answers at once on one port", async () => {
  await open();
  const streams = Array.from({ length: 8 }, () => client.respond(COUNT));
  const texts = await Promise.all(streams.map((stream) => stream.text()));
  expect(new Set(texts)).toEqual(new Set([ANSWER]));
  expect(runtime.hosts).toHaveLength(1);
});

it("joins what is longer than a browser takes in one message", async () => {
  const stream = (await open()).respond({
    ...COUNT,
    ignore_eos: true,
    max_output_tokens: 900,
    include: ["message.output_text.logprobs"],
    top_logprobs: 20,
  });
  const response = await stream.completed();
  expect(JSON.stringify(response).length).toBeGreaterThan(1024 * 1024);
  expect(response.output[0]?.content[0]?.text.startsWith(ANSWER)).toBe(true);
  expect(Math.max(...runtime.frames)).toBeLessThanOrEqual(1024 * 1024);
});

it("fails a request over the server's limit, and keeps the port", async () => {
  const long = (await open()).respond({ input: "x".repeat(2 * 1024 * 1024) });
  await expect(long.text()).rejects.toMatchObject({ code: "message_too_big" });
  expect(await client.respond(COUNT).text()).toBe(ANSWER);
  expect(runtime.hosts).toHaveLength(1);
});

it("may manage models", async () => {
  await open();
  expect((await client.models.unload("chain")).state).toBe("unloaded");
  const states: string[] = [];
  const model = await client.models.load("chain", ({ state }) => states.push(state));
  expect(model.state).toBe("ready");
  expect(states).toContain("loading");
});

it("loses no token when the host is killed", async () => {
  const stream = (await open()).respond(COUNT);
  let text = "";
  for await (const piece of stream.textStream()) {
    if (text === "") runtime.kill();
    text += piece;
  }
  expect(text).toBe(ANSWER);
  expect(runtime.hosts).toHaveLength(2);
});

it("ends the host when the client is closed", async () => {
  await open();
  const ended = once(runtime.hosts[0] as object as NodeJS.EventEmitter, "exit");
  client.close();
  await ended;
});
