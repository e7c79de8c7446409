/** An extension that a section of `docs/extension.md` builds, built from its text. */

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
import { REPOSITORY } from "../../../clients/js/test/server.js";

export class Guide {
  readonly folder = mkdtempSync(join(realpathSync(tmpdir()), "tabagent-guide-"));
  readonly #text: string;

  /** Reads from a heading on to the next of its rank or above. */
  constructor(heading: string) {
    const page = readFileSync(join(REPOSITORY, "docs/extension.md"), "utf8");
    const [, text] = page.split(`${heading}\n`);
    if (!text) throw new Error(`the guide has no ${heading}`);
    this.#text = text.split(/^#{1,2} /m)[0] as string;
    const library = join(REPOSITORY, "clients/js/dist/tabagent.js");
    copyFileSync(library, join(this.folder, "tabagent.js"));
  }

  /** The id that browsers give to an unpacked extension without a key. */
  get id(): string {
    const digest = createHash("sha256").update(this.folder).digest("hex").slice(0, 32);
    return [...digest].map((digit) => "abcdefghijklmnop"[Number.parseInt(digit, 16)]).join("");
  }

  /** Returns the `index`th block of code in a language. */
  block(language: string, index = 0): string {
    const blocks = [...this.#text.matchAll(/^ *```(\w+)\n(.*?)^ *```$/gms)];
    const found = blocks.filter(([, name]) => name === language)[index]?.[2];
    if (!found) throw new Error(`the guide has no ${language} (${index})`);
    return found;
  }

  /** Writes a block into a file of the extension. */
  write(file: string, language: string, index = 0): void {
    writeFileSync(join(this.folder, file), this.block(language, index));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
