/** The extension that `docs/extension.md` builds, built from its text. */

import { createHash } from "node:crypto";
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { configureServer } from "../../../clients/js/test/native-host.js";
import { ANSWER, Home, REPOSITORY } from "../../../clients/js/test/server.js";
import { Browser, skipReason } from "./browser.js";

/** The id that browsers give to an unpacked extension without a key. */
function idOf(folder: string): string {
  const digest = createHash("sha256").update(folder).digest("hex").slice(0, 32);
  return [...digest].map((digit) => "abcdefghijklmnop"[Number.parseInt(digit, 16)]).join("");
}

describe.skipIf(skipReason)("the guide", () => {
  const guide = readFileSync(join(REPOSITORY, "docs/extension.md"), "utf8");
  const folder = mkdtempSync(join(realpathSync(tmpdir()), "tabagent-guide-"));
  const home = new Home();
  const browser = new Browser(folder);

  function block(language: string): string {
    const found = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "s").exec(guide)?.[1];
    if (!found) throw new Error(`the guide has no ${language}`);
    return found;
  }

  beforeAll(async () => {
    writeFileSync(join(folder, "manifest.json"), block("json"));
    writeFileSync(join(folder, "popup.html"), block("html"));
    writeFileSync(join(folder, "popup.js"), block("js"));
    const library = join(REPOSITORY, "clients/js/dist/tabagent.js");
    copyFileSync(library, join(folder, "tabagent.js"));
    configureServer(home);
    browser.installHost(home, idOf(folder));
    await browser.start(home.env);
  });

  afterAll(async () => {
    await browser.stop();
    home.run("stop");
    home.remove();
    rmSync(folder, { recursive: true });
  });

  it("leads to a streaming answer in ten lines", async () => {
    const lines = [block("html"), block("js")].join("").trim().split("\n");
    expect(lines.filter((line) => line.trim()).length).toBeLessThanOrEqual(10);
    const page = await browser.context.newPage();
    await page.goto(`chrome-extension://${idOf(folder)}/popup.html`);
    await page.getByText(ANSWER.trimStart()).waitFor();
  });
});
