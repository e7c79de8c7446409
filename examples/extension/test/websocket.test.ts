/** The extension in Chromium, over a WebSocket: no native host is installed. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../../../clients/js/src/index.js";
import { counted, Home, type Server } from "../../../clients/js/test/server.js";
import { Browser, ORIGIN, skipReason } from "./browser.js";
import { Panel } from "./panel.js";

const LENGTH = 100;
const ANSWER = counted(LENGTH).trimStart();
/** What the model `long` says: enough to be stopped in its midst. */
const LONG_ANSWER = counted(1500).trimStart();

describe.skipIf(skipReason)("the extension over a WebSocket", () => {
  const home = new Home(LENGTH);
  const browser = new Browser();
  let server: Server;
  let panel: Panel;

  beforeAll(async () => {
    const long = home.addModel("long", 1500);
    server = await home.serve("--model", long, "--allow-origin", ORIGIN);
    await browser.start();
    await browser.configure({ url: server.url });
    panel = new Panel(await browser.openPanel());
    await panel.page.getByRole("button", { name: "Try again" }).click(); // it looked elsewhere
    await panel.ready();
  });

  afterEach(async () => {
    await panel.page.getByRole("button", { name: "New chat" }).click();
    await panel.choose("chain");
  });

  afterAll(async () => {
    await browser.stop();
    await server.stop();
    home.remove();
  });

  it("streams an answer, and shows its transport and speed", async () => {
    await panel.ask("Count!");
    expect(await panel.answer()).toBe(ANSWER);
    expect(await panel.transport.textContent()).toBe("WebSocket");
    expect(await panel.text("#rate")).toMatch(/^\d+(\.\d)? tokens\/s$/);
    expect(await panel.note()).toContain(`${LENGTH + 1} written`);
    await browser.screenshot(panel.page, "answered");
  });

  it("stops at Escape and keeps what has come", async () => {
    await panel.choose("long");
    await panel.ask("Count!");
    await panel.streaming();
    await panel.page.keyboard.press("Escape");
    const text = await panel.answer();
    expect(text.length).toBeLessThan(LONG_ANSWER.length);
    expect(LONG_ANSWER.startsWith(text)).toBe(true);
    expect(await panel.note()).toContain("stopped");
  });

  it("stops at the button", async () => {
    await panel.choose("long");
    await panel.ask("Count!");
    await panel.streaming();
    await browser.screenshot(panel.page, "streaming");
    await panel.stop.click();
    expect((await panel.answer()).length).toBeLessThan(LONG_ANSWER.length);
  });

  it("goes on with its answer when the service worker is killed", async () => {
    await panel.choose("long");
    await panel.ask("Count!");
    await panel.streaming();
    const life = () =>
      browser.worker().then((worker) => worker.evaluate(() => performance.timeOrigin));
    const first = await life();
    await browser.killWorker(panel.page);
    expect(await panel.answer()).toBe(LONG_ANSWER);
    expect(await life()).toBeGreaterThan(first);
  });

  it("shows the same chat in a panel that is opened later", async () => {
    await panel.ask("Count!");
    await panel.answer();
    const second = new Panel(await browser.openPanel());
    expect(await second.answer()).toBe(ANSWER);
    await second.page.close();
  });

  it("remembers what was said", async () => {
    await panel.ask("Count!");
    await panel.answer();
    const [first] = /\d+/.exec(await panel.note()) ?? [];
    await panel.ask("Again!");
    await panel.answer();
    const [second] = /\d+/.exec(await panel.note()) ?? [];
    expect(Number(second)).toBeGreaterThan(Number(first));
  });

  it("is dark where the system is", async () => {
    await panel.page.emulateMedia({ colorScheme: "dark" });
    await browser.screenshot(panel.page, "welcome-dark");
    await panel.ask("Count!");
    await panel.answer();
    await browser.screenshot(panel.page, "answered-dark");
    const back = await panel.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    expect(back).toBe("rgb(20, 24, 22)");
    await panel.page.emulateMedia({ colorScheme: "light" });
  });

  it("summarises the page beside its side panel", async () => {
    const site = createServer((_, answer) => {
      answer.setHeader("Content-Type", "text/html");
      answer.end(`<title>Rivers</title><main>${"Water flows. ".repeat(400)}</main>`); // too long
    });
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    const page = await browser.context.newPage();
    await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
    const side = await browser.openSidePanel(panel.page);
    await page.bringToFront();
    await side.click("#summarise");
    expect(await panel.answer()).toBe(ANSWER);
    expect(await panel.text(".turn.user p")).toBe("Summarise “Rivers”");
    const [read] = /\d+/.exec(await panel.note()) ?? [];
    expect(Number(read)).toBeGreaterThan(1000); // a token per letter: most of the context
    await page.close();
    site.close();
  });
});

describe.skipIf(skipReason)("the extension", () => {
  let home: Home;
  let browser: Browser;
  let server: Server;

  beforeAll(async () => {
    home = new Home(30);
    browser = new Browser();
    await browser.start();
  });

  afterEach(() => server?.stop());

  afterAll(async () => {
    await browser.stop();
    home.remove();
  });

  async function openPanel(token = ""): Promise<Panel> {
    await browser.configure({ url: server.url, token });
    const panel = new Panel(await browser.openPanel());
    await panel.page.evaluate(() => chrome.runtime.connect().postMessage({ type: "reconnect" }));
    return panel;
  }

  async function unload(model: string, token: string): Promise<void> {
    const client = await connect({ url: server.url, via: "http", token });
    await client.models.unload(model);
    client.close();
  }

  it("is let in once its pairing code is approved", async () => {
    server = await home.serve();
    const panel = await openPanel();
    await panel.page.getByText("Approve this extension").waitFor();
    await browser.screenshot(panel.page, "not-approved");
    const command = await panel.text("#problem-command");
    home.run(...(command?.split(" ").slice(1) ?? []));
    await panel.page.getByRole("button", { name: "Try again" }).click();
    await panel.ask("Count!");
    expect(await panel.answer()).toBe(counted(30).trimStart());
    await panel.page.getByRole("button", { name: "New chat" }).click();
  });

  it("loads the model that is chosen, with its token", async () => {
    home.addModel("second", 30);
    server = await home.serve("--token", "secret");
    await unload("second", "secret");
    const panel = await openPanel("secret");
    await panel.ready();
    await panel.page
      .getByRole("option", { name: "second (unloaded)" })
      .waitFor({ state: "attached" });
    await panel.model.selectOption("second");
    await panel.page
      .getByRole("option", { name: "second", exact: true })
      .waitFor({ state: "attached" });
    expect(await panel.model.inputValue()).toBe("second");
    await panel.ask("Count!");
    expect(await panel.answer()).toBe(counted(30).trimStart());
  });
});
