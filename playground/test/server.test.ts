/** What the page shows of its server: models, who asks for access, hardware, tokens. */

import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../../clients/js/src/index.js";
import { Hub, PULLED } from "../../clients/js/test/hub.js";
import { counted, Home, REPOSITORY, type Server } from "../../clients/js/test/server.js";
import { launch, Playground, skipReason } from "./playground.js";

const GUIDE = join(REPOSITORY, "backends/tabagent_backends/guide/tabagent-guide.gguf");
const EXTENSIONS = ["a", "b"].map((letter) => `chrome-extension://${letter.repeat(32)}`);

describe.skipIf(skipReason)("the playground", () => {
  let home: Home;
  let server: Server;
  let browser: Browser;
  let playground: Playground;

  beforeAll(async () => {
    browser = await launch();
  });

  afterEach(async () => {
    await playground?.close();
    await server?.stop();
    home?.remove();
  });

  afterAll(() => browser?.close());

  async function open(hash = "", ...flags: string[]): Promise<void> {
    server = await home.serve(...flags);
    playground = await Playground.open(browser, server.url, hash);
  }

  it("loads the model that is chosen, shows how far it is, and unloads it", async () => {
    home = new Home(30);
    home.addModel("second", 2000);
    await open();
    const { page } = playground;
    await playground.connected("ws");
    const client = await connect({ url: server.url, via: "http" });
    await client.models.unload("second").catch(() => {});
    client.close();
    await page.evaluate(() => {
      const look = () => {
        const bar = document.querySelector("#models progress");
        if (bar) document.documentElement.dataset.seen = bar.getAttribute("aria-label") ?? "";
      };
      new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
    });
    await page.locator("#model").click();
    const row = page.locator("#models [data-model=second]");
    await page.locator("#models [data-model=second][data-state=unloaded] > button").click();
    await page.locator("#models [data-model=second][data-state=ready]").waitFor();
    expect(await page.locator("html").getAttribute("data-seen")).toBe("Loading second");
    await playground.screenshot("models");
    await page.keyboard.press("Escape");
    expect(await page.locator("#model").innerText()).toContain("second");
    await playground.ask("Count!");
    await playground.streaming();
    expect(playground.asked.at(-1)).toMatchObject({ model: "second" });
    await page.keyboard.press("Escape");
    await playground.answer();
    await page.locator("#model").click();
    await row.getByRole("button", { name: "Unload second" }).click();
    await page.locator("#models [data-model=second][data-state=unloaded]").waitFor();
  });

  it("downloads a model, shows how far it is, and can be told to stop", async () => {
    home = new Home(30);
    const hub = await Hub.start(home);
    await hub.hold();
    await open();
    const { page } = playground;
    await playground.connected("ws");
    await page.locator("#model").click();
    const form = page.locator("#download");
    await form.getByRole("textbox").fill("org/repo");
    await form.getByRole("button", { name: "Download" }).click();
    await form.getByText(`${PULLED}.gguf · `).waitFor();
    await playground.screenshot("download");
    await form.getByRole("button", { name: "Cancel" }).click();
    await form.getByRole("progressbar").waitFor({ state: "detached" });
    expect(await form.getByRole("alert").count()).toBe(0);
    await hub.release();
    await form.getByRole("button", { name: "Download" }).click();
    await page.locator(`#models [data-model=${PULLED}][data-state=unloaded]`).waitFor();
    await form.getByRole("textbox").fill("org/none");
    await form.getByRole("button", { name: "Download" }).click();
    expect(await form.getByRole("alert").innerText()).toContain("the Hub has no org/none");
    await hub.stop();
  });

  it("approves and refuses extensions that ask", async () => {
    home = new Home(30);
    await open();
    const ask = async (origin: string) => {
      const headers = { Origin: origin, "Content-Type": "application/json" };
      const answer = await fetch(`${server.url}/v1/responses`, {
        method: "POST",
        headers,
        body: "{}",
      });
      return (await answer.json()).error;
    };
    const { page } = playground;
    for (const [index, origin] of EXTENSIONS.entries()) {
      const { pairing_code } = await ask(origin);
      await page.locator(".pairing", { hasText: origin }).getByText(pairing_code).waitFor();
      if (index === 0) await playground.screenshot("pairing");
      await page.getByRole("button", { name: index === 0 ? "Approve" : "Refuse" }).click();
      await page.locator(".pairing").waitFor({ state: "detached" });
    }
    const codes = await Promise.all(EXTENSIONS.map(async (origin) => (await ask(origin)).code));
    expect(codes).toEqual(["invalid_parameter", "origin_not_allowed"]);
    await page.getByRole("link", { name: "Hardware" }).click();
    await page.getByRole("button", { name: `Revoke ${EXTENSIONS[0]}` }).click();
    await page.getByText("No extension or page has been approved.").waitFor();
    expect((await ask(EXTENSIONS[0] ?? "")).code).toBe("origin_not_allowed");
  });

  it("shows what it runs on, and why", async () => {
    home = new Home(30);
    await open("#hardware");
    const { page } = playground;
    const system = await (await fetch(`${server.url}/v1/system`)).json();
    await page.getByRole("region", { name: "Processor" }).getByText(system.cpu.name).waitFor();
    const runtime = await page.getByRole("region", { name: "Runtime", exact: true }).innerText();
    expect(runtime).toContain(system.runtime.reason);
    expect(await page.locator("tbody tr").count()).toBe(system.candidates.length);
    expect(await page.locator("tr[aria-current]").innerText()).toContain(system.runtime.variant);
    await playground.screenshot("hardware");
    await page.emulateMedia({ colorScheme: "dark" });
    await playground.screenshot("hardware-dark");
    await page.setViewportSize({ width: 390, height: 780 });
    await playground.screenshot("hardware-narrow");
    const { scroll, width } = await page.evaluate(() => ({
      scroll: document.documentElement.scrollWidth,
      width: innerWidth,
    }));
    expect(scroll).toBeLessThanOrEqual(width);
  });

  it("asks for the token of a server that needs one", async () => {
    home = new Home(30);
    await open("", "--token", "secret", "--require-token");
    await playground.page.getByLabel("This server needs its token:").fill("wrong");
    await playground.page.keyboard.press("Enter");
    await playground.page.getByLabel("This server needs its token:").fill("secret");
    await playground.page.keyboard.press("Enter");
    await playground.connected("ws");
    await playground.ask("Count!");
    expect(await playground.answer()).toBe(counted(30).trim());
  });

  it("says so when the server has gone, and goes on when it is back", async () => {
    home = new Home(30);
    await open();
    await playground.connected();
    await server.stop();
    await playground.page.locator("#problem").waitFor();
    await playground.screenshot("gone");
    expect(await playground.page.locator("#transport").getAttribute("data-connected")).toBe("none");
    server = await home.serve("--port", String(server.port), "--model", "echo=echo:demo");
    await playground.connected();
    await playground.page.locator("#problem").waitFor({ state: "detached" });
    await playground.choose("echo"); // a model that was not there before
    await playground.ask("Still *there*?");
    expect(await playground.answer()).toBe("Still there?");
    const headers = { Origin: EXTENSIONS[0] ?? "", "Content-Type": "application/json" };
    await fetch(`${server.url}/v1/responses`, { method: "POST", headers, body: "{}" });
    await playground.page.locator(".pairing").waitFor();
  });

  it("answers with the built-in guide, wide and narrow, light and dark", async () => {
    home = new Home(30);
    server = await home.serve("--model", `tabagent-guide=${GUIDE}`);
    playground = await Playground.open(browser, server.url);
    const { page } = playground;
    await playground.connected();
    await playground.choose("tabagent-guide");
    await playground.screenshot("welcome");
    await page.getByRole("button", { name: "How do I connect from an extension?" }).click();
    expect(await playground.answer()).toContain("WebSocket");
    await page.getByLabel("Settings of the answer").first().click();
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await playground.screenshot(`guide-${colorScheme}`);
    }
    await page.getByLabel("Close the settings").click();
    await page.setViewportSize({ width: 390, height: 780 });
    await playground.screenshot("guide-narrow");
  });
});
