/** The extension that `docs/extension.md` builds, built from its text. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { configureServer } from "../../../clients/js/test/native-host.js";
import { ANSWER, Home } from "../../../clients/js/test/server.js";
import { Browser, skipReason } from "./browser.js";
import { Guide } from "./guide.js";

describe.skipIf(skipReason)("the guide", () => {
  const guide = new Guide("# A streaming answer in your extension");
  const { folder } = guide;
  const home = new Home();
  const browser = new Browser(folder);

  beforeAll(async () => {
    guide.write("manifest.json", "json");
    guide.write("popup.html", "html");
    guide.write("popup.js", "js");
    configureServer(home);
    browser.installHost(home, guide.id);
    await browser.start(home.env);
  });

  afterAll(async () => {
    await browser.stop();
    home.run("stop");
    home.remove();
    guide.remove();
  });

  it("leads to a streaming answer in ten lines", async () => {
    const lines = guide.block("html").concat(guide.block("js")).trim().split("\n");
    expect(lines.filter((line) => line.trim()).length).toBeLessThanOrEqual(10);
    const page = await browser.context.newPage();
    await page.goto(`chrome-extension://${guide.id}/popup.html`);
    await page.getByText(ANSWER.trimStart()).waitFor();
  });
});
