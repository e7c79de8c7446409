/** Questions and answers with real models, over every way that the page offers. */

import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { counted, Home, type Server } from "../../clients/js/test/server.js";
import { WAYS, type Way } from "../src/ways.js";
import { launch, Playground, skipReason } from "./playground.js";

const LENGTH = 100;
const ANSWER = counted(LENGTH).trim();
/** What the model `long` says: enough to be stopped in its midst. */
const LONG_ANSWER = counted(1500).trim();

describe.skipIf(skipReason)("the playground", () => {
  const home = new Home(LENGTH);
  let server: Server;
  let browser: Browser;
  let playground: Playground;

  beforeAll(async () => {
    server = await home.serve("--model", home.addModel("long", 1500), "--model", "echo=echo:demo");
    browser = await launch();
  });

  beforeEach(async () => {
    playground = await Playground.open(browser, server.url);
    await playground.connected();
  });

  afterEach(() => playground.close());

  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    home.remove();
  });

  describe.each(Object.keys(WAYS) as Way[])("over %s", (way) => {
    beforeEach(() => playground.go(way));

    it("streams an answer and measures it", async () => {
      await playground.ask("Count!");
      expect(await playground.answer()).toBe(ANSWER);
      expect(await playground.note()).toContain(`${LENGTH + 1} written`);
      expect(await playground.reading("tokens")).toBe(String(LENGTH));
      expect(await playground.reading("first-token")).toMatch(/^[\d.,]+ ms$/);
      expect(await playground.reading("speed")).toMatch(/^[\d.,]+ tokens\/s$/);
      expect(await playground.reading("gaps")).toMatch(/^median [\d.,]+ · longest [\d.,]+ ms$/);
      await playground.page.locator("#round-trip:has-text('ms')").waitFor();
      await playground.screenshot(`answered-${way}`);
      expect(playground.complaints).toEqual([]);
    });

    it("stops at Escape and keeps what has come", async () => {
      await playground.choose("long");
      await playground.ask("Count!");
      await playground.streaming();
      await playground.page.keyboard.press("Escape");
      const text = await playground.answer();
      expect(text.length).toBeLessThan(LONG_ANSWER.length);
      expect(LONG_ANSWER.startsWith(text)).toBe(true);
      expect(await playground.note()).toContain("stopped");
    });

    it("stops at the button", async () => {
      await playground.choose("long");
      await playground.ask("Count!");
      await playground.streaming();
      await playground.page.getByRole("button", { name: "Stop" }).click();
      expect((await playground.answer()).length).toBeLessThan(LONG_ANSWER.length);
    });

    it("puts the settings into the request", async () => {
      await playground.page.getByLabel("Settings of the answer").first().click();
      await playground.page.getByLabel("Temperature", { exact: true }).fill("0.3");
      await playground.page.getByLabel("Top k", { exact: true }).fill("7");
      await playground.page.getByLabel("Top p", { exact: true }).fill("0.9");
      await playground.page.getByLabel("Min p", { exact: true }).fill("0.1");
      await playground.page.getByLabel("Repeat penalty", { exact: true }).fill("1.1");
      await playground.page.getByLabel("Seed").fill("42");
      await playground.page.getByLabel("Max tokens").fill("5");
      await playground.page.getByLabel("System prompt").fill("Be brief.");
      await playground.ask("Count!");
      expect(await playground.answer()).toBe(counted(5).trim());
      expect(await playground.note()).toContain("seed 42 · cut off at its limit");
      expect(playground.asked.at(-1)).toMatchObject({
        temperature: 0.3,
        top_k: 7,
        top_p: 0.9,
        min_p: 0.1,
        repeat_penalty: 1.1,
        seed: 42,
        max_output_tokens: 5,
        instructions: "Be brief.",
      });
    });

    it("shows what the server does not take, and goes on without it", async () => {
      await playground.page.getByLabel("Settings of the answer").first().click();
      await playground.page.getByRole("switch", { name: "JSON schema" }).check();
      await playground.ask("Count!");
      const failure = playground.page.locator(".failure");
      await failure.getByText("not_supported").waitFor();
      await playground.screenshot(`not-supported-${way}`);
      expect(playground.asked.at(-1)).toMatchObject({
        text: { format: { type: "json_schema", strict: true, schema: { type: "object" } } },
      });
      await failure.getByRole("button", { name: "Ask without the schema" }).click();
      expect(await playground.answer()).toBe(ANSWER);
      expect(playground.asked.at(-1)).not.toHaveProperty("text");
    });
  });

  it("shows how much of a long question has been read", async () => {
    await playground.page.evaluate(() => {
      const look = () => {
        const bar = document.querySelector(".waiting progress");
        if (bar) document.documentElement.dataset.seen = bar.getAttribute("aria-label") ?? "";
      };
      new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
    });
    await playground.choose("long");
    await playground.ask("letter ".repeat(100));
    await playground.streaming();
    await playground.page.keyboard.press("Escape");
    const seen = await playground.page.locator("html").getAttribute("data-seen");
    expect(seen).toMatch(/^Reading [\d,]+ of [\d,]+ tokens$/);
  });

  it("sends the conversation with each question", async () => {
    await playground.ask("one");
    await playground.answer();
    await playground.ask("two");
    await playground.answer();
    const said = (playground.asked.at(-1)?.input as { content: string }[]) ?? [];
    expect(said.map(({ content }) => content.trim())).toEqual(["one", ANSWER, "two"]);
  });

  it("asks again in place of the last answer", async () => {
    await playground.ask("one");
    await playground.answer();
    await playground.page.getByRole("button", { name: "Ask again" }).click();
    await playground.answer();
    expect(playground.asked.map(({ input }) => (input as unknown[]).length)).toEqual([1, 1]);
    expect(await playground.answers.count()).toBe(1);
  });

  it("does not send a schema that is no JSON", async () => {
    await playground.page.getByLabel("Settings of the answer").first().click();
    await playground.page.getByRole("switch", { name: "JSON schema" }).check();
    await playground.page.getByRole("textbox", { name: "JSON schema" }).fill("{oh");
    await playground.page.locator("#schema-problem:not(:empty)").waitFor();
    await playground.ask("Count!");
    expect(playground.asked).toEqual([]);
    expect(await playground.prompt.inputValue()).toBe("Count!");
  });

  it("is used with the keyboard alone", async () => {
    const { keyboard } = playground.page;
    await keyboard.type("first line"); // the message has the focus from the start
    await keyboard.press("Shift+Enter");
    await keyboard.type("second line");
    await keyboard.press("Enter");
    expect(await playground.answer()).toBe(ANSWER);
    expect(await playground.page.locator(".turn.user").innerText()).toBe("first line\nsecond line");
    await playground.page.locator(`#announcement:text-is("${ANSWER}")`).waitFor();

    const names: string[] = [];
    for (let step = 0; step < 25; step += 1) {
      await keyboard.press("Tab");
      const { name, outline } = await playground.page.evaluate(() => {
        const element = document.activeElement as HTMLElement;
        if (element === document.body) return { name: "the browser's own", outline: true };
        const seen = element.matches("input[type=radio]") ? element.nextElementSibling : element;
        const frame = element.closest(".composer") ?? seen;
        const { outlineStyle } = getComputedStyle(seen ?? element);
        return {
          name: element.id || element.getAttribute("aria-label") || element.innerText,
          outline: outlineStyle !== "none" || frame?.matches(".composer:focus-within"),
        };
      });
      expect(outline, `${name} shows its focus`).toBe(true);
      names.push(name);
      if (name === "prompt") break;
    }
    for (const name of ["Chat", "Hardware", "model", "open-panel", "theme", "Conversation"]) {
      expect(names).toContain(name);
    }
    expect(names.at(-1)).toBe("prompt");
  });

  it("opens and closes the models and the settings by keys, and stops nothing by it", async () => {
    await playground.choose("long");
    await playground.ask("Count!");
    await playground.streaming();
    await playground.page.locator("#model").press("Enter");
    await playground.page.locator("#models").waitFor();
    await playground.page.keyboard.press("Escape");
    await playground.page.locator("#models").waitFor({ state: "detached" });
    expect(await playground.page.evaluate(() => document.activeElement?.id)).toBe("model");
    await playground.page.locator("#open-panel").press("Enter");
    await playground.page.getByLabel("System prompt").press("Escape");
    await playground.page.locator("#panel").waitFor({ state: "detached" });
    expect(await playground.answer()).toBe(LONG_ANSWER);
  });

  it("keeps what was set, and its colours, when it is opened again", async () => {
    const { page } = playground;
    await page.emulateMedia({ colorScheme: "light" });
    const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await back();
    await page.getByLabel(/^Theme/).click();
    await page.getByLabel(/^Theme: Light/).click();
    await page.getByLabel(/^Theme: Dark/).waitFor();
    const dark = await back();
    expect(dark).not.toBe(light);
    await page.reload();
    await playground.connected();
    expect(await back()).toBe(dark);
    await page.getByLabel(/^Theme: Dark/).click();
    expect(await back()).toBe(light);
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await back()).toBe(dark);
  });

  it("asks nobody but its server", async () => {
    await playground.ask("Count!");
    await playground.answer();
    await playground.page.getByRole("link", { name: "Hardware" }).click();
    await playground.page.locator(".card").first().waitFor();
    const hosts = new Set(playground.requests.map((address) => new URL(address).host));
    expect([...hosts]).toEqual([new URL(server.url).host]);
    expect(playground.complaints).toEqual([]);
  });
});
