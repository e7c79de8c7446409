/** The client against the real server, over the transports that Node has. */

import { afterEach, describe, expect, inject, it } from "vitest";
import { WebSocket } from "ws";
import { type Client, type ConnectOptions, connect, type TabagentError } from "../src/index.js";
import { ANSWER } from "./answer.js";
import { behavesAsAClient } from "./client-behaviour.js";

const url = inject("url");
const clients: Client[] = [];

async function open(options: ConnectOptions): Promise<Client> {
  const client = await connect({ url, WebSocket, ...options });
  clients.push(client);
  return client;
}

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

describe.each(["ws", "http"] as const)("over %s", (via) => {
  behavesAsAClient({ url, WebSocket, via });
});

describe("over auto", () => {
  it("prefers a WebSocket where there is no native messaging", async () => {
    expect((await open({})).transport).toBe("ws");
  });

  it("falls back to HTTP where there is no WebSocket", async () => {
    const client = await connect({ url });
    clients.push(client);
    expect(client.transport).toBe(globalThis.WebSocket ? "ws" : "http");
    expect(await client.respond({ input: "Count!", temperature: 0 }).text()).toBe(ANSWER);
  });

  it("says what was tried when all fails", async () => {
    const failure = await open({ url: "http://127.0.0.1:9" }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "connection_failed" });
    expect((failure as TabagentError).message).toContain("http://127.0.0.1:9");
  });
});

it("tells its state as it changes", async () => {
  const client = await open({ via: "ws" });
  const states: string[] = [client.state];
  client.on("state", (state) => states.push(state));
  client.close();
  expect(states).toEqual(["open", "closed"]);
});
