/** The panel as its user sees it. */

import type { Locator, Page } from "playwright-core";

export class Panel {
  readonly page: Page;
  readonly prompt: Locator;
  readonly transport: Locator;
  readonly model: Locator;
  readonly problem: Locator;
  readonly stop: Locator;

  constructor(page: Page) {
    this.page = page;
    this.prompt = page.getByLabel("Message");
    this.transport = page.locator("#transport");
    this.model = page.getByLabel("Model");
    this.problem = page.locator("#problem");
    this.stop = page.getByRole("button", { name: "Stop" });
  }

  /** Waits until questions can be sent. */
  async ready(): Promise<void> {
    await this.page.locator("#send:enabled").waitFor();
  }

  /** Chooses a model that is ready. */
  async choose(model: string): Promise<void> {
    await this.page
      .locator(`#model:enabled option[value="${model}"]`)
      .waitFor({ state: "attached" });
    await this.model.selectOption(model);
  }

  /** Asks with the keyboard alone. */
  async ask(text: string): Promise<void> {
    await this.ready();
    await this.prompt.focus();
    await this.page.keyboard.type(text);
    await this.page.keyboard.press("Enter");
  }

  /** Waits until the answer has begun. */
  async streaming(): Promise<void> {
    await this.page.locator(".turn.assistant[aria-busy=true] p:not(:empty)").last().waitFor();
  }

  /** Resolves to the last answer, once it has ended; rejects with what the panel says of it. */
  async answer(): Promise<string> {
    await this.page.locator(".turn.assistant[aria-busy=false]:last-child").waitFor();
    const failure = this.page.locator(".turn.assistant:last-child .error");
    if (await failure.count()) throw new Error(await failure.innerText());
    return (await this.text(".turn.assistant:last-child p")) ?? "";
  }

  /** Resolves to what stands below the last answer. */
  async note(): Promise<string> {
    return (await this.text(".turn.assistant:last-child small")) ?? "";
  }

  text(selector: string): Promise<string | null> {
    return this.page.locator(selector).textContent();
  }
}
