/** The extension in Chromium, over native messaging to a server that the browser's host starts. */

import { readdirSync, readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { configureServer } from "../../../clients/js/test/native-host.js";
import { counted, Home } from "../../../clients/js/test/server.js";
import type * as Library from "../src/vendor/tabagent.js";
import { Browser, EXTENSION_ID, skipReason } from "./browser.js";
import { Panel } from "./panel.js";

const LENGTH = 100;
const ANSWER = counted(LENGTH);
const LONG_ANSWER = counted(1500);
const MIB = 1024 * 1024;

describe.skipIf(skipReason)("the extension over native messaging", () => {
  const home = new Home(LENGTH);
  const browser = new Browser();
  let panel: Panel;

  beforeAll(async () => {
    configureServer(home, home.addModel("long", 1500));
    browser.installHost(home, EXTENSION_ID);
    await browser.start(home.env);
    panel = new Panel(await browser.openPanel());
  });

  afterEach(async () => {
    await panel.page.getByRole("button", { name: "New chat" }).click();
  });

  afterAll(async () => {
    await browser.stop();
    home.run("stop");
    home.remove();
  });

  it("starts the server and streams an answer", async () => {
    await panel.ask("Count!");
    expect(await panel.answer()).toBe(ANSWER.trimStart());
    expect(await panel.transport.textContent()).toBe("native messaging");
    await panel.choose("chain");
    await browser.screenshot(panel.page, "native");
  });

  it("loads the model that is chosen", async () => {
    await panel.choose("chain");
    const state = await inPage(panel.page, async ({ connect }) => {
      const client = await connect({ via: "native" });
      const unloaded = await client.models.unload("chain");
      const loaded = await client.models.load("chain");
      client.close();
      return [unloaded.state, loaded.state];
    });
    expect(state).toEqual(["unloaded", "ready"]);
  });

  it("carries two streams at once on one port", async () => {
    const texts = await inPage(panel.page, async ({ connect }) => {
      const client = await connect({ via: "native" });
      const streams = [1, 2].map(() => client.respond({ input: "Count!" }));
      const answers = await Promise.all(streams.map((stream) => stream.text()));
      client.close();
      return answers;
    });
    expect(texts).toEqual([ANSWER, ANSWER]);
  });

  it("takes answers that are longer than the browser's limit for a message", async () => {
    const [size, text] = await inPage(panel.page, async ({ connect }) => {
      const client = await connect({ via: "native" });
      const response = await client
        .respond({
          input: "Count!",
          ignore_eos: true,
          max_output_tokens: 900,
          include: ["message.output_text.logprobs"],
          top_logprobs: 20,
        })
        .completed();
      client.close();
      return [JSON.stringify(response).length, response.output[0]?.content[0]?.text] as const;
    });
    expect(size).toBeGreaterThan(MIB);
    expect(text?.startsWith(ANSWER)).toBe(true);
  });

  it.each([
    [1_000_000, "context_length_exceeded"], // taken, and read
    [2_000_000, "message_too_big"],
  ])("answers a request of %i bytes with %s and keeps the port", async (size, code) => {
    const [refusal, text] = await inPage(
      panel.page,
      async ({ connect }, length) => {
        const client = await connect({ via: "native" });
        const long = client.respond({ input: "x".repeat(length) });
        const failure = await long.text().catch((error) => error.code);
        const answer = await client.respond({ input: "Count!" }).text();
        client.close();
        return [failure, answer];
      },
      size,
    );
    expect(refusal).toBe(code);
    expect(text).toBe(ANSWER);
  });

  it("goes on with its answer when the service worker is killed", async () => {
    await panel.choose("long");
    await panel.ask("Count!");
    await panel.streaming();
    await browser.killWorker(panel.page);
    expect(await panel.answer()).toBe(LONG_ANSWER.trimStart());
  });

  it("loses no token when its host is killed", async () => {
    await panel.choose("long");
    await panel.ask("Count!");
    await panel.streaming();
    const running = hosts();
    expect(running).not.toEqual([]);
    for (const pid of running) process.kill(pid, "SIGKILL");
    expect(await panel.answer()).toBe(LONG_ANSWER.trimStart());
    expect(await panel.transport.textContent()).toBe("native messaging");
  });

  it("answers again after its server was stopped", async () => {
    home.run("stop");
    await panel.choose("chain");
    await panel.ask("Count!");
    expect(await panel.answer()).toBe(ANSWER.trimStart());
  });

  /** The host processes that this browser has started. */
  function hosts(): number[] {
    const mark = `chrome-extension://${EXTENSION_ID}/`;
    const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return processes.map(Number).filter((pid) => {
      const words = commandLine(pid);
      return words.includes(mark) && words.some((word) => word.startsWith(home.folder));
    });
  }
});

function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return []; // it has ended meanwhile
  }
}

/** Runs code with the client library, and an argument, in the extension's page. */
function inPage<T, A = undefined>(
  page: Page,
  code: (library: typeof Library, argument: A) => Promise<T>,
  argument?: A,
): Promise<T> {
  const call = `(${code})(library, ${JSON.stringify(argument)})`;
  return page.evaluate(`import("/vendor/tabagent.js").then((library) => ${call})`) as Promise<T>;
}
