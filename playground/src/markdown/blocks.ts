/** Splits a Markdown text that grows into blocks, without reading all of it again and again. */

import { Lexer, type Token } from "marked";

/** So many blocks at the end may still turn into something else: a list item may follow a list. */
const OPEN_BLOCKS = 2;

/** One text, from its first piece to its end. */
export class GrowingMarkdown {
  #settled: Token[] = [];
  #settledLength = 0;

  /** Returns the blocks of a text that begins with the text before; settled ones stay the same. */
  update(text: string): Token[] {
    const rest = text.slice(this.#settledLength);
    const fresh = Lexer.lex(rest);
    const settling = firstOpen(fresh);
    let end = 0;
    for (const token of fresh.slice(0, settling)) {
      // Where the lexer has rewritten its input (line ends, tabs), lengths do not add up.
      if (!rest.startsWith(token.raw, end)) return [...this.#settled, ...fresh];
      end += token.raw.length;
    }
    const before = this.#settled;
    this.#settled = [...before, ...fresh.slice(0, settling)];
    this.#settledLength += end;
    return [...before, ...fresh];
  }

  /** Returns the blocks of the whole text, read at once: what comes last may name earlier links. */
  finish(text: string): Token[] {
    return Lexer.lex(text);
  }
}

/** Returns the index of the first block that may still change. */
function firstOpen(tokens: Token[]): number {
  let open = 0;
  for (let index = tokens.length - 1; index >= 0; index -= 1) {
    if (tokens[index]?.type !== "space") open += 1;
    if (open === OPEN_BLOCKS) return index;
  }
  return 0;
}
