/** The extension with an offscreen document that `docs/extension.md` builds. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { ANSWER, Home, type Server } from "../../../clients/js/test/server.js";
import { Browser, skipReason } from "./browser.js";
import { Guide } from "./guide.js";

type Reply = { text: string } | { code: string };

declare const ask: (input: string, server: object) => Promise<Reply>;

describe.skipIf(skipReason)("an offscreen document", () => {
  const guide = new Guide("## WebRTC from an offscreen document");
  const home = new Home();
  let browser: Browser;
  let server: Server;

  beforeAll(() => {
    guide.write("manifest.json", "json");
    guide.write("worker.js", "js", 0);
    guide.write("offscreen.html", "html");
    guide.write("offscreen.js", "js", 1);
  });

  afterEach(async () => {
    await browser.stop();
    await server.stop();
  });

  afterAll(() => {
    home.remove();
    guide.remove();
  });

  async function answer(token?: string): Promise<Reply> {
    browser = new Browser(guide.folder);
    await browser.start();
    const worker = await browser.worker();
    const address = { url: server.url, token };
    return worker.evaluate((known) => ask("Count!", known), address);
  }

  it("streams over WebRTC with the server's token", async () => {
    server = await home.serve("--require-token", "--token", "secret");
    expect(await answer("secret")).toEqual({ text: ANSWER });
  });

  it("streams over WebRTC as an approved extension", async () => {
    server = await home.serve("--allow-origin", `chrome-extension://${guide.id}`);
    expect(await answer()).toEqual({ text: ANSWER });
  });

  it("is refused without either", async () => {
    server = await home.serve();
    expect(await answer()).toEqual({ code: "origin_not_allowed" });
  });
});
