/** The playground in a headless Chromium, as its user sees it. */

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  type Browser,
  type BrowserContext,
  chromium,
  type Locator,
  type Page,
} from "playwright-core";
import type { Way } from "../src/ways.js";

const PROGRAM = process.env.TABAGENT_CHROMIUM ?? "/usr/bin/chromium";
const ARTEFACTS = join(import.meta.dirname, "../../artefacts/playground");

/** Why the browser tests cannot run here; null when they can, or must. */
export const skipReason =
  existsSync(PROGRAM) || process.env.TABAGENT_REQUIRE_BROWSER === "1"
    ? null
    : `there is no ${PROGRAM}`;

export async function launch(): Promise<Browser> {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  return chromium.launch({ executablePath: PROGRAM, args });
}

/** One tab with storage of its own. */
export class Playground {
  readonly page: Page;
  readonly prompt: Locator;
  readonly answers: Locator;
  /** What the browser complains of: errors of scripts, and what its policy has blocked. */
  readonly complaints: string[] = [];
  /** Every address that was asked for. */
  readonly requests: string[] = [];
  /** The requests for answers, as they went over the wire. */
  readonly asked: Record<string, unknown>[] = [];
  readonly #context: BrowserContext;

  private constructor(context: BrowserContext, page: Page) {
    this.#context = context;
    this.page = page;
    this.prompt = page.getByLabel("Message");
    this.answers = page.locator(".turn.assistant");
    page.on("pageerror", ({ message }) => this.complaints.push(message));
    page.on("console", (message) => {
      // Over HTTP the client asks to be let in by a request that cannot be answered.
      const isAdmission = message.location().url.endsWith("/v1/responses");
      if (message.type() === "error" && !isAdmission) this.complaints.push(message.text());
    });
    page.on("request", (request) => {
      this.requests.push(request.url());
      const isCreate = request.url().endsWith("/v1/responses") && request.method() === "POST";
      const body = isCreate ? request.postDataJSON() : null;
      if (body?.input) this.asked.push(body);
    });
    page.on("websocket", (socket) => {
      this.requests.push(socket.url());
      socket.on("framesent", ({ payload }) => {
        const message = JSON.parse(String(payload));
        if (message.type === "response.create") this.asked.push(message);
      });
    });
  }

  static async open(browser: Browser, url: string, hash = ""): Promise<Playground> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const playground = new Playground(context, await context.newPage());
    await playground.#watchDataChannels();
    await playground.page.goto(url + hash);
    return playground;
  }

  /** Data channels are encrypted, so that only the page itself knows what it sends. */
  async #watchDataChannels(): Promise<void> {
    await this.page.exposeFunction("noteSent", (text: string) => {
      const message = JSON.parse(text);
      if (message.type === "response.create") this.asked.push(message);
    });
    await this.page.addInitScript(() => {
      const { send } = RTCDataChannel.prototype;
      RTCDataChannel.prototype.send = function (this: RTCDataChannel, data: string) {
        (globalThis as unknown as { noteSent(text: string): void }).noteSent(data);
        send.call(this, data as never);
      } as typeof send;
    });
  }

  /** Waits until a transport is connected. */
  async connected(way?: Way): Promise<void> {
    const wanted = way ? `[data-connected=${way}]` : ":not([data-connected=none])";
    await this.page.locator(`#transport${wanted}`).waitFor();
  }

  async go(way: Way): Promise<void> {
    await this.page.locator(`#transport label:has([value=${way}])`).click();
    await this.connected(way);
  }

  async choose(model: string): Promise<void> {
    await this.page.locator("#model").click();
    await this.page
      .locator(`#models [data-model="${model}"][data-state=ready] > button`)
      .first()
      .click();
  }

  async ask(text: string): Promise<void> {
    await this.prompt.fill(text);
    await this.prompt.press("Enter");
  }

  /** Resolves once the last answer has text and goes on. */
  async streaming(): Promise<void> {
    await this.page.locator(".turn.assistant[aria-busy=true] .markdown > *").first().waitFor();
  }

  /** Resolves to the last answer's text at its end. */
  async answer(): Promise<string> {
    await this.page.locator(".turn:last-child.assistant[aria-busy=false]").waitFor();
    return this.answers.last().locator(".markdown").innerText();
  }

  async note(): Promise<string> {
    return this.answers.last().locator(".note").innerText();
  }

  async reading(id: string): Promise<string> {
    return this.page.locator(`#${id}`).innerText();
  }

  async screenshot(name: string): Promise<void> {
    mkdirSync(ARTEFACTS, { recursive: true });
    await this.page.screenshot({ path: join(ARTEFACTS, `${name}.png`), animations: "disabled" });
  }

  async close(): Promise<void> {
    await this.#context.close();
  }
}
