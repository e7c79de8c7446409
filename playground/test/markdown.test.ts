/** What becomes of Markdown: answers of a model that repeats the question, word by word. */

import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Home, type Server } from "../../clients/js/test/server.js";
import { GrowingMarkdown } from "../src/markdown/blocks.js";
import { launch, Playground, skipReason } from "./playground.js";

const SAMPLE = `# Rivers

Water **flows** *down*, ~~up~~, \`down\` &amp; on.

1. first
2. second
   - nested

- [x] done
- [ ] open

| river | length |
|:--|--:|
| Rhine | 1233 |

> Quoted, [a link](https://example.com/a?b=1&c=2).

\`\`\`python
def flow():
    return "<b>down</b>"
\`\`\`

The end.`;

const HOSTILE = `<script>window.hurt = 1</script> <img src="https://evil.example/a.png" onerror="window.hurt = 2">

<iframe srcdoc="<script>parent.hurt = 3</script>"></iframe>

<style>body { display: none }</style>

[click](javascript:window.hurt=4) [click](&#106;avascript:window.hurt=5) [click](data:text/html,hurt) [click](vbscript:hurt)

![picture](https://evil.example/b.png) ![x](x" onerror="window.hurt=6) <a href="javascript:window.hurt=7">link</a>

[ref]: javascript:window.hurt=8

[ref] <svg/onload=window.hurt=9> &lt;script&gt;window.hurt=10&lt;/script&gt;

\`\`\`"><script>window.hurt=11</script>
</code></pre><script>window.hurt = 12</script>
\`\`\``;

describe.skipIf(skipReason)("an answer in Markdown", () => {
  const home = new Home();
  let server: Server;
  let browser: Browser;
  let playground: Playground;

  beforeAll(async () => {
    server = await home.serve("--model", "echo=echo:demo");
    browser = await launch();
  });

  beforeEach(async () => {
    playground = await Playground.open(browser, server.url);
    await playground.connected();
    await playground.choose("echo");
  });

  afterEach(() => playground.close());

  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    home.remove();
  });

  it("is shown as what it means", async () => {
    await playground.ask(SAMPLE);
    await playground.answer();
    const markdown = playground.answers.locator(".markdown");
    expect(await markdown.locator("[data-depth='1']").innerText()).toBe("Rivers");
    expect(await markdown.locator("p").first().innerHTML()).toBe(
      "Water <strong>flows</strong> <em>down</em>, <del>up</del>, <code>down</code> &amp; on.",
    );
    expect(await markdown.locator("ol > li").count()).toBe(2);
    expect(await markdown.locator("ol ul > li").innerText()).toBe("nested");
    expect(await markdown.locator("li.task input:checked").count()).toBe(1);
    expect(await markdown.locator("td").allInnerTexts()).toEqual(["Rhine", "1233"]);
    const link = markdown.locator("blockquote a");
    expect(await link.getAttribute("href")).toBe("https://example.com/a?b=1&c=2");
    expect(await link.getAttribute("rel")).toBe("noopener noreferrer");
    expect(await markdown.locator("pre").innerText()).toBe('def flow():\n    return "<b>down</b>"');
    expect(await markdown.locator("figcaption").innerText()).toContain("python");
    await playground.page.getByText("The end.").last().waitFor();
    await playground.screenshot("markdown");
    await playground.page.emulateMedia({ colorScheme: "dark" });
    await playground.screenshot("markdown-dark");
  });

  it("does no harm, whatever HTML it holds", async () => {
    await playground.ask(HOSTILE);
    await playground.answer();
    const { page } = playground;
    const markdown = playground.answers.locator(".markdown");
    for (const span of await markdown.locator("p span").all()) await span.click();
    expect(await page.evaluate(() => (window as { hurt?: number }).hurt)).toBeUndefined();
    const elements = await markdown.evaluate((element) =>
      [...element.querySelectorAll("*")].map(({ localName }) => localName),
    );
    const harmless = [
      "p",
      "span",
      "a",
      "br",
      "figure",
      "figcaption",
      "button",
      "svg",
      "path",
      "pre",
      "code",
    ];
    expect(elements.filter((name) => !harmless.includes(name))).toEqual([]);
    const addresses = await markdown.evaluate((element) =>
      [...element.querySelectorAll("a")].map(({ protocol }) => protocol),
    );
    expect(new Set(addresses)).toEqual(new Set(["https:"]));
    expect(await markdown.innerText()).toContain("<script>window.hurt = 1</script>");
    const strangers = playground.requests.filter((address) => !address.includes("127.0.0.1"));
    expect(strangers).toEqual([]);
    expect(playground.complaints).toEqual([]);
  });

  it.each([
    ["quotes", "> ".repeat(3000)],
    ["lists", Array.from({ length: 60 }, (_, depth) => `${"  ".repeat(depth)}- x`).join("\n")],
    ["emphasis", "*a **b ".repeat(500) + "c** d*".repeat(500)],
    ["brackets", "[".repeat(5000)],
  ])("goes on after %s without end", async (_, text) => {
    await playground.ask(`${text} end`);
    await playground.answer();
    expect(await playground.answers.locator(".markdown").textContent()).toContain("end");
    await playground.ask("And **now**?");
    expect(await playground.answer()).toBe("And now?");
    expect(playground.complaints).toEqual([]);
  });

  it("leaves the blocks alone that are settled, and keeps its end in view", async () => {
    const isAtEnd = () =>
      playground.page.locator(".scroller").evaluate((element) => {
        const { scrollHeight, scrollTop, clientHeight } = element;
        return scrollHeight - scrollTop - clientHeight < 2;
      });
    const paragraphs = Array.from({ length: 400 }, (_, number) => `Paragraph **${number}**.`);
    await playground.page.evaluate(() => {
      const watch = new MutationObserver((changes) => {
        for (const { target } of changes) {
          const element = target instanceof Element ? target : target.parentElement;
          if (element?.closest(".markdown > :first-child")) counted.first += 1;
        }
      });
      const counted = { first: 0 };
      Object.assign(window, { counted });
      const options = { subtree: true, childList: true, characterData: true };
      watch.observe(document.body, options);
    });
    await playground.ask(paragraphs.join("\n\n"));
    expect(await playground.answers.locator(".markdown > p").count()).toBeGreaterThan(0);
    await playground.answer();
    expect(await playground.answers.locator(".markdown > p").count()).toBe(400);
    expect(await isAtEnd()).toBe(true);
    const { first } = await playground.page.evaluate(
      () => (window as unknown as { counted: { first: number } }).counted,
    );
    expect(first).toBeLessThan(20); // it is not drawn anew for each of 400 others
  });
});

describe("a Markdown text that grows", () => {
  it("has the blocks that it would have at once, wherever it is cut", () => {
    for (const step of [1, 2, 3, 7, 50]) {
      const growing = new GrowingMarkdown();
      for (let end = step; end < SAMPLE.length + step; end += step) {
        const text = SAMPLE.slice(0, end);
        expect(growing.update(text).map(({ raw }) => raw)).toEqual(
          new GrowingMarkdown().finish(text).map(({ raw }) => raw),
        );
      }
    }
  });

  it("is plain text from where it is nested too deep", () => {
    const emphasis = `${"**a *".repeat(20)}x${"* b**".repeat(20)}`;
    for (const text of [
      "> ".repeat(5000),
      "> ".repeat(30),
      "- ".repeat(30),
      `| a |\n|--|\n| ${emphasis}`,
    ]) {
      const growing = new GrowingMarkdown();
      const [block] = growing.update(`before\n\n${text}x`);
      expect(block).toMatchObject({ type: "code", text: `before\n\n${text}x` });
      expect(growing.finish(`${text}x`)).toMatchObject([{ type: "code" }]);
    }
  });

  it("reads only its end again", () => {
    const growing = new GrowingMarkdown();
    const before = growing.update("one\n\ntwo\n\nthree\n\nfour");
    const after = growing.update("one\n\ntwo\n\nthree\n\nfour and more");
    expect(after[0]).toBe(before[0]);
    expect(after.at(-1)).not.toBe(before.at(-1));
  });
});
