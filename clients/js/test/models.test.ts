/** Downloads and deletions, over each transport that Node has, from a Hub of the test's own. */

import { statSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { type Client, connect, type PullProgressEvent } from "../src/index.js";
import { Hub, PULLED, REFERENCE } from "./hub.js";
import { installHost, Runtime } from "./native-host.js";
import { ANSWER, Home, type Server } from "./server.js";

// Each download is a process of its own, whose start alone may take seconds.
const PATIENCE = { timeout: 90_000 };

describe.each(["ws", "http", "native"] as const)("over %s", PATIENCE, (via) => {
  const home = new Home();
  let hub: Hub;
  let server: Server | undefined;
  let client: Client;

  beforeAll(async () => {
    hub = await Hub.start(home);
    if (via === "native") installHost(home);
    else server = await home.serve();
  });

  afterAll(async () => {
    if (server) await server.stop();
    else home.run("stop");
    await hub.stop();
    home.remove();
  });

  afterEach(() => client.close());

  async function open(): Promise<Client> {
    const runtime = new Runtime(home);
    client = await connect({ via, runtime, WebSocket, ...(server && { url: server.url }) });
    return client;
  }

  async function ids(): Promise<string[]> {
    return (await client.models.list()).map(({ id }) => id);
  }

  it("pulls a model, which then answers, and deletes it", async () => {
    await open();
    const told: PullProgressEvent[] = [];
    const model = await client.models.pull(REFERENCE, { progress: (event) => told.push(event) });
    expect(model).toMatchObject({ id: PULLED, state: "unloaded" });
    const { size } = statSync(home.model);
    const file = `${PULLED}.gguf`;
    expect(told.at(-1)).toMatchObject({ model: REFERENCE, file, done: size, total: size });
    await client.models.load(PULLED);
    expect(await client.respond({ input: "Count!", model: PULLED, temperature: 0 }).text()).toBe(
      ANSWER,
    );
    expect(await ids()).toContain(PULLED);
    await client.models.delete(PULLED);
    expect(await ids()).not.toContain(PULLED);
    await expect(client.models.delete(PULLED)).rejects.toMatchObject({ code: "model_not_found" });
  });

  it("ends a download when its signal aborts, and can begin it again", async () => {
    await open();
    await hub.hold();
    const reason = new Error("enough");
    const controller = new AbortController();
    const pulling = client.models.pull(REFERENCE, {
      signal: controller.signal,
      progress: () => controller.abort(reason),
    });
    await expect(pulling).rejects.toBe(reason);
    expect(await ids()).not.toContain(PULLED);
    await hub.release();
    expect((await client.models.pull(REFERENCE)).id).toBe(PULLED);
    await client.models.delete(PULLED);
  });

  it("does not ask at all when its signal has aborted before", async () => {
    await open();
    const signal = AbortSignal.abort("no");
    await expect(client.models.pull("nobody would take this", { signal })).rejects.toBe("no");
  });

  it("rejects with the code of what went wrong", async () => {
    await open();
    const refusals = { "hf:org/none": "model_not_found", nonsense: "invalid_parameter" };
    for (const [reference, code] of Object.entries(refusals)) {
      await expect(client.models.pull(reference)).rejects.toMatchObject({ code });
    }
  });

  it("deletes no model that is kept elsewhere", async () => {
    await open();
    await expect(client.models.delete("chain")).rejects.toMatchObject({
      code: "invalid_parameter",
    });
    expect(await ids()).toContain("chain");
  });
});
