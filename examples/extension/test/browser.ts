/** A headless Chromium with the unpacked extension. */

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type BrowserContext,
  type CDPSession,
  chromium,
  type Page,
  type Worker,
} from "playwright-core";
import { hostManifest } from "../../../clients/js/test/native-host.js";
import type { Home } from "../../../clients/js/test/server.js";

export const EXTENSION_ID = "cnellbkbkodojcpofnpmjclfmjaclmbj";
export const ORIGIN = `chrome-extension://${EXTENSION_ID}`;

const PROGRAM = process.env.TABAGENT_CHROMIUM ?? "/usr/bin/chromium";
const SOURCES = join(import.meta.dirname, "../src");
const ARTEFACTS = join(import.meta.dirname, "../../../artefacts/extension");

/** Why the browser tests cannot run here; null when they can, or must. */
export const skipReason =
  existsSync(PROGRAM) || process.env.TABAGENT_REQUIRE_BROWSER === "1"
    ? null
    : `there is no ${PROGRAM}`;

/** A browser with a profile of its own, and an unpacked extension. */
export class Browser {
  readonly profile = mkdtempSync(join(tmpdir(), "tabagent-chromium-"));
  readonly #extension: string;
  #context: BrowserContext | null = null;

  constructor(extension = SOURCES) {
    this.#extension = extension;
  }

  async start(env: NodeJS.ProcessEnv = process.env): Promise<void> {
    this.#context = await chromium.launchPersistentContext(this.profile, {
      executablePath: PROGRAM,
      headless: true,
      env: env as Record<string, string>,
      viewport: { width: 400, height: 720 },
      ignoreDefaultArgs: ["--disable-extensions"],
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        `--load-extension=${this.#extension}`,
      ],
    });
  }

  /** Lets an extension start the host that is installed in a home. */
  installHost(home: Home, extensionId: string): void {
    home.run("host", "install", extensionId, "--browser", "chromium");
    // A profile of its own looks for hosts in itself.
    const folder = join(this.profile, "NativeMessagingHosts");
    mkdirSync(folder, { recursive: true });
    copyFileSync(hostManifest(home), join(folder, "com.tabagent.host.json"));
  }

  get context(): BrowserContext {
    if (!this.#context) throw new Error("the browser has not been started");
    return this.#context;
  }

  async worker(): Promise<Worker> {
    return this.context.serviceWorkers()[0] ?? this.context.waitForEvent("serviceworker");
  }

  /** Tells the extension where the server is, as its settings do. */
  async configure(settings: { url: string; token?: string }): Promise<void> {
    const worker = await this.worker();
    await worker.evaluate((values) => chrome.storage.local.set(values), settings);
  }

  /** Opens the panel's page in a tab. */
  async openPanel(): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(`${ORIGIN}/panel.html`);
    return page;
  }

  /** Opens the browser's side panel beside the tabs of a page's window. */
  async openSidePanel(page: Page): Promise<SidePanel> {
    const browser = await this.context.newCDPSession(page);
    const before = await sidePanels(browser);
    // Opening one needs a user's gesture, which the protocol can lend.
    await browser.send("Runtime.evaluate", {
      expression:
        "chrome.windows.getCurrent().then(({ id }) => chrome.sidePanel.open({ windowId: id }))",
      userGesture: true,
      awaitPromise: true,
    });
    const opened = (await sidePanels(browser)).find((id) => !before.includes(id));
    if (!opened) throw new Error("no side panel was opened");
    return new SidePanel(browser, opened);
  }

  /** Ends the service worker, as the browser does when it pleases. */
  async killWorker(page: Page): Promise<void> {
    const session = await this.context.newCDPSession(page);
    await session.send("ServiceWorker.enable");
    await session.send("ServiceWorker.stopAllWorkers");
    await session.detach();
  }

  async screenshot(page: Page, name: string): Promise<void> {
    mkdirSync(ARTEFACTS, { recursive: true });
    await page.screenshot({ path: join(ARTEFACTS, `${name}.png`) });
  }

  async stop(): Promise<void> {
    await this.#context?.close();
    rmSync(this.profile, { recursive: true, force: true });
  }
}

async function sidePanels(session: CDPSession): Promise<string[]> {
  const { targetInfos } = await session.send("Target.getTargets");
  return targetInfos.filter(({ url }) => url.startsWith(ORIGIN)).map(({ targetId }) => targetId);
}

/** The real side panel, which Playwright does not know as a page. */
export class SidePanel {
  readonly #session: CDPSession;
  readonly #target: string;

  constructor(session: CDPSession, target: string) {
    this.#session = session;
    this.#target = target;
  }

  /** Clicks an element once it is enabled, as a user does. */
  async click(selector: string): Promise<void> {
    const element = `document.querySelector(${JSON.stringify(selector)})`;
    const click = `(${element}?.disabled === false) && (${element}.click(), true)`;
    while (!(await this.#evaluate(click))) {}
  }

  async #evaluate(expression: string): Promise<unknown> {
    const targetId = this.#target;
    const { sessionId } = await this.#session.send("Target.attachToTarget", { targetId });
    const answer = new Promise<string>((resolve) => {
      this.#session.once("Target.receivedMessageFromTarget", ({ message }) => resolve(message));
    });
    const params = { expression, userGesture: true };
    const message = JSON.stringify({ id: 1, method: "Runtime.evaluate", params });
    await this.#session.send("Target.sendMessageToTarget", { sessionId, message });
    const { result } = JSON.parse(await answer);
    await this.#session.send("Target.detachFromTarget", { sessionId });
    return result?.result?.value;
  }
}
